/*
 * Loads one program of cost.bpf.c with libbpf, attaches it, and reads its records until its
 * standard input ends: `cost OBJECT PROGRAM`. Prints "ready" when it is attached, and at the
 * end how many events it has seen.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned long long seen;

static int take(void *unused, void *record, size_t size)
{
    (void)unused, (void)record, (void)size;
    seen++;
    return 0;
}

int main(int argc, char **argv)
{
    struct bpf_object *object;
    struct bpf_program *program;
    struct bpf_map *map;
    struct ring_buffer *ring;
    struct pollfd input = { .fd = 0, .events = POLLIN };

    if (argc != 3 || !(object = bpf_object__open(argv[1])))
        return 1;
    bpf_object__for_each_program(program, object)
        bpf_program__set_autoload(program, !strcmp(bpf_program__name(program), argv[2]));
    if (bpf_object__load(object))
        return 1;
    program = bpf_object__find_program_by_name(object, argv[2]);
    if (!program || !bpf_program__attach(program))
        return 1;
    map = bpf_object__find_map_by_name(object, "records");
    ring = ring_buffer__new(bpf_map__fd(map), take, NULL, NULL);
    if (!ring)
        return 1;
    puts("ready");
    fflush(stdout);
    while (!poll(&input, 1, 0))
        ring_buffer__poll(ring, 10);
    ring_buffer__consume(ring);
    map = bpf_object__find_map_by_name(object, "counts");
    if (!strncmp(argv[2], "count", 5)) {
        int cpus = libbpf_num_possible_cpus();
        unsigned long long *counts = calloc(cpus, sizeof(*counts));
        unsigned int key = 0;

        if (!counts || bpf_map_lookup_elem(bpf_map__fd(map), &key, counts))
            return 1;
        while (cpus--)
            seen += counts[cpus];
    }
    printf("%llu\n", seen);
    return 0;
}
