// Prints the texts of captured records by libtraceevent: one line for each record,
// `EVENT: TEXT`, and on stderr how many it prints a second.
//
// cc libtraceevent.c $(pkg-config --cflags --libs libtraceevent)
// a.out ROOT PAGES…

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event-parse.h>
#include <kbuffer.h>
#include <trace-seq.h>

static char *read_file(const char *path, size_t *size)
{
	FILE *file = fopen(path, "r");
	char *bytes = NULL;
	size_t length = 0, space = 0;

	if (!file)
		return NULL;
	for (;;) {
		if (length == space)
			bytes = realloc(bytes, space = space ? 2 * space : 65536);
		size_t more = fread(bytes + length, 1, space - length, file);
		if (!more)
			break;
		length += more;
	}
	fclose(file);
	*size = length;
	return bytes;
}

static void read_formats(struct tep_handle *tep, const char *root)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/tracing/events", root);
	DIR *categories = opendir(path);
	struct dirent *category, *event;

	while (categories && (category = readdir(categories))) {
		if (category->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/tracing/events/%s", root, category->d_name);
		DIR *events = opendir(path);
		while (events && (event = readdir(events))) {
			size_t size;
			snprintf(path, sizeof(path), "%s/tracing/events/%s/%s/format", root,
				 category->d_name, event->d_name);
			char *format = event->d_name[0] == '.' ? NULL : read_file(path, &size);
			if (format)
				tep_parse_event(tep, format, size, category->d_name);
			free(format);
		}
		if (events)
			closedir(events);
	}
	if (categories)
		closedir(categories);
}

static void read_strings(struct tep_handle *tep, const char *root)
{
	char path[4096], *rest, *line;
	size_t size;

	snprintf(path, sizeof(path), "%s/tracing/printk_formats", root);
	char *text = read_file(path, &size);
	if (!text)
		return;
	text = realloc(text, size + 1);
	text[size] = 0;
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		unsigned long long address = strtoull(line, NULL, 16);
		char *string = strchr(line, '"');
		if (string)
			tep_register_print_string(tep, string + 1, address);
	}
}

// Prints all records of a file; a null handle of output only counts.
static long print(struct tep_handle *tep, char *pages, size_t size, FILE *out)
{
	struct kbuffer *kbuf = kbuffer_alloc(KBUFFER_LSIZE_8, KBUFFER_ENDIAN_LITTLE);
	struct trace_seq seq;
	long count = 0;

	trace_seq_init(&seq);
	for (size_t at = 0; at + 4096 <= size; at += 4096) {
		unsigned long long time;
		kbuffer_load_subbuffer(kbuf, pages + at);
		void *data = kbuffer_read_event(kbuf, &time);
		for (; data; data = kbuffer_next_event(kbuf, &time)) {
			struct tep_record record = {
				.ts = time,
				.size = kbuffer_event_size(kbuf),
				.data = data,
			};
			struct tep_event *event = tep_find_event_by_record(tep, &record);
			trace_seq_reset(&seq);
			if (event)
				tep_print_event(tep, &seq, &record, "%s", TEP_PRINT_INFO);
			trace_seq_terminate(&seq);
			// One line for each.
			for (char *c = seq.buffer; out && (c = strchr(c, '\n')); )
				*c = ' ';
			if (out)
				fprintf(out, "%s: %s\n", event ? event->name : "?", seq.buffer);
			count++;
		}
	}
	trace_seq_destroy(&seq);
	kbuffer_free(kbuf);
	return count;
}

int main(int argc, char **argv)
{
	struct tep_handle *tep = tep_alloc();
	char path[4096], *header;
	size_t size;

	if (argc < 3)
		return 2;
	snprintf(path, sizeof(path), "%s/tracing/events/header_page", argv[1]);
	header = read_file(path, &size);
	if (!header)
		return 1;
	tep_set_long_size(tep, 8);
	tep_set_page_size(tep, 4096);
	tep_set_file_bigendian(tep, TEP_LITTLE_ENDIAN);
	tep_set_local_bigendian(tep, TEP_LITTLE_ENDIAN);
	tep_parse_header_page(tep, header, size, 8);
	read_formats(tep, argv[1]);
	read_strings(tep, argv[1]);
	for (int i = 2; i < argc; i++) {
		char *pages = read_file(argv[i], &size);
		double best = 1e9;
		long count = pages ? print(tep, pages, size, stdout) : 0;
		for (int round = 0; round < 15; round++) {
			struct timespec begin, end;
			clock_gettime(CLOCK_MONOTONIC, &begin);
			print(tep, pages, size, NULL);
			clock_gettime(CLOCK_MONOTONIC, &end);
			double took = end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9;
			if (took < best)
				best = took;
		}
		fprintf(stderr, "libtraceevent: %ld records, %.2f million a second\n", count,
			count / best / 1e6);
	}
	return 0;
}
