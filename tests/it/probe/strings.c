/* Makes system calls with names in memory that cannot be read when they begin. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 65536L
#define NAMES 10000

static int file;

static char *page_of(long page)
{
	char *memory = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, file, page * PAGE);

	if (memory == MAP_FAILED)
		exit(1);
	return memory;
}

/* A file with a name at the start of each page. */
static void write_names(int count, const char *format, const char *directory)
{
	char path[4096], name[4096];

	snprintf(path, sizeof(path), "%s/names", directory);
	file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (file < 0 || ftruncate(file, (off_t)count * PAGE))
		exit(1);
	for (long i = 0; i < count; i++) {
		int length = snprintf(name, sizeof(name), format, (int)i);

		if (pwrite(file, name, length + 1, i * PAGE) != length + 1)
			exit(1);
	}
}

int main(int count, char **arguments)
{
	char fifo[4096];
	const char *act, *directory;

	if (count != 3)
		return 2;
	act = arguments[1];
	directory = arguments[2];
	snprintf(fifo, sizeof(fifo), "%s/fifo", directory);
	if (!strcmp(act, "names")) {
		write_names(NAMES, "/nofault/%05d", directory);
		/* Each in a page that was never touched. */
		for (long i = 0; i < NAMES; i++) {
			char *name = page_of(i);

			open(name, O_RDONLY);
			munmap(name, PAGE);
		}
		/* Each in a page that was dropped. */
		for (long i = 0; i < NAMES; i++) {
			char *name = page_of(i);

			if (*(volatile char *)name != '/' || madvise(name, PAGE, MADV_DONTNEED))
				return 1;
			open(name, O_RDONLY);
			munmap(name, PAGE);
		}
	} else if (!strcmp(act, "rewrite")) {
		char *name = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		if (name == MAP_FAILED || mkfifo(fifo, 0600))
			return 1;
		strcpy(name, fifo);
		if (!fork()) {
			/* It can be read at entry. The call waits for a writer. */
			if (*(volatile char *)name == '/')
				open(name, O_RDONLY);
			_exit(0);
		}
		usleep(300000);
		strcpy(name, "/nofault/other");
		open(fifo, O_WRONLY);
		wait(0);
	} else if (!strcmp(act, "exec")) {
		char *const argv[] = { "true", 0 };

		write_names(1, "/bin/true", directory);
		execv(page_of(0), argv);
		return 1;
	} else if (!strcmp(act, "block")) {
		if (mkfifo(fifo, 0600))
			return 1;
		write_names(1, fifo, directory);
		open(page_of(0), O_RDONLY);
	}
	return 0;
}
