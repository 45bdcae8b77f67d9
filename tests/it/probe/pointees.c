/* Makes system calls whose results and arguments are known beforehand. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/netlink.h>

#define PAGE 65536L
#define EXPECT(condition) do { if (!(condition)) { perror(#condition); exit(1); } } while (0)

static const char *directory;

static char *in_directory(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static long sleep_for(const void *time, void *rest)
{
	return syscall(SYS_nanosleep, time, rest);
}

/* A page of a file that begins with these bytes, and was never touched. */
static void *untouched(const void *bytes, size_t length)
{
	int file = open(in_directory("page"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	void *page;

	EXPECT(file >= 0 && !ftruncate(file, PAGE));
	EXPECT(pwrite(file, bytes, length, 0) == (ssize_t)length);
	page = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	EXPECT(page != MAP_FAILED);
	return page;
}

static void read_times(void)
{
	struct timespec time = { 0, 1234567 }, other = { 0, 7654 };

	EXPECT(!sleep_for(&time, 0));
	EXPECT(!sleep_for(untouched(&other, sizeof(other)), 0));
	EXPECT(sleep_for(0, 0) && errno == EFAULT);
	EXPECT(sleep_for((void *)8, 0) && errno == EFAULT);
}

static void rewrite(void)
{
	struct timespec *time = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	EXPECT(time != MAP_FAILED);
	time->tv_nsec = 400000000;
	if (!fork()) {
		usleep(150000);
		time->tv_nsec = 5;
		_exit(0);
	}
	EXPECT(!sleep_for(time, 0));
	wait(0);
	EXPECT(!sleep_for(time, 0));
}

static void on_signal(int number)
{
	(void)number;
}

/* Prints what the interrupted call left. */
static void interrupt(void)
{
	struct itimerval soon = { { 0, 0 }, { 0, 200000 } };
	struct timespec shortly = { 0, 1000 }, time = { 20, 0 }, rest = { 77, 77 };

	EXPECT(!sleep_for(&shortly, &rest) && rest.tv_sec == 77);
	signal(SIGALRM, on_signal);
	EXPECT(!setitimer(ITIMER_REAL, &soon, 0));
	EXPECT(sleep_for(&time, &rest) && errno == EINTR);
	printf("{tv_sec=%lld, tv_nsec=%ld}\n", (long long)rest.tv_sec, (long)rest.tv_nsec);
}

static long stat_of(const char *path, void *answer)
{
	return syscall(SYS_newfstatat, AT_FDCWD, path, answer, 0);
}

static void write_stats(void)
{
	char path[4096];
	struct stat answer;
	char *page = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	strcpy(path, in_directory("page"));
	untouched("x", 1);
	EXPECT(!stat_of(path, &answer));
	EXPECT(!stat_of(path, page));
	EXPECT(stat_of("/nofault/missing", &answer) && errno == ENOENT);
	EXPECT(stat_of(path, 0) && errno == EFAULT);
	EXPECT(stat_of(path, (void *)8) && errno == EFAULT);
}

/* No such descriptor exists. */
static void refused(const void *address, unsigned length)
{
	EXPECT(connect(-1, address, length));
}

static void connect_all(void)
{
	struct sockaddr_in inet = { .sin_family = AF_INET, .sin_port = htons(53) };
	struct sockaddr_in6 inet6 = { .sin6_family = AF_INET6, .sin6_port = htons(443) };
	struct sockaddr_un path = { .sun_family = AF_UNIX, .sun_path = "/nofault/\"x\"" };
	struct sockaddr_un hidden = { .sun_family = AF_UNIX, .sun_path = "\0no\0fault" };
	struct sockaddr_nl netlink = { .nl_family = AF_NETLINK, .nl_pid = 4242, .nl_groups = 9 };
	struct sockaddr_in other;

	inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	inet6.sin6_flowinfo = htonl(5);
	inet6.sin6_addr.s6_addr[15] = 1;
	inet6.sin6_scope_id = 3;
	other = inet;
	other.sin_family = 250;
	refused(&inet, sizeof(inet));
	refused(&inet6, sizeof(inet6));
	refused(&path, sizeof(path));
	refused(&hidden, 2 + 9);
	refused(&path, 2);
	refused(&netlink, sizeof(netlink));
	refused(&inet, 4);
	refused(&other, 6);
	refused(&inet, 1);
	refused(&inet, 0);
	/* Refused before the kernel touches the page. */
	refused(untouched(&inet, sizeof(inet)), sizeof(inet));
	EXPECT(!connect(socket(AF_INET, SOCK_DGRAM, 0), untouched(&inet, sizeof(inet)), sizeof(inet)));
	refused(&inet, 129);
	refused(&inet, -1);
	refused(0, sizeof(inet));
	refused((void *)8, sizeof(inet));
}

/* Prints the port. */
static void names(void)
{
	struct sockaddr_in inet = { .sin_family = AF_INET };
	const socklen_t spaces[] = { 16, 28, 4, 0 };
	char answer[28];
	socklen_t length = 16;
	int number = socket(AF_INET, SOCK_DGRAM, 0);

	inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	EXPECT(number >= 0 && !bind(number, (void *)&inet, sizeof(inet)));
	for (int i = 0; i < 4; i++) {
		memset(answer, 0xee, sizeof(answer));
		length = spaces[i];
		EXPECT(!getsockname(number, (void *)answer, &length) && length == 16);
		if (i == 0)
			printf("%u\n", ntohs(((struct sockaddr_in *)answer)->sin_port));
	}
	EXPECT(getsockname(-1, (void *)answer, &length));
}

static void open_all(void)
{
	const unsigned long long how[] = { O_PATH, 0, 0, 0, 0 };
	const unsigned long sizes[] = { 24, 8, 40, 1UL << 20, 1UL << 32 | 24 };

	for (int i = 0; i < 5; i++)
		EXPECT(syscall(SYS_openat2, AT_FDCWD, "/nofault/missing", how, sizes[i]));
}

/* Prints nothing that is not predicted: the addresses are all 16 * n. */
static void vectors(void)
{
	struct iovec { void *base; unsigned long length; } few[3], *late, many[20];
	struct pollfd { int fd; short events, revents; } polled[2] = { { -1, 1, 0 }, { 0, 4, 0 } };
	struct epoll_event waiting = { .events = EPOLLIN, .data.u64 = 4242 }, got[4];
	int pipes[2], epoll;

	for (int i = 0; i < 20; i++)
		many[i] = (struct iovec){ (void *)(16L * (i + 1)), i };
	for (int i = 0; i < 3; i++)
		few[i] = many[i];
	late = untouched(few, sizeof(few));
	EXPECT(syscall(SYS_writev, -1, few, 3UL) && errno == EBADF);
	EXPECT(syscall(SYS_writev, -1, few, 0UL));
	EXPECT(syscall(SYS_writev, -1, many, 20UL));
	EXPECT(syscall(SYS_writev, -1, few, 1025UL));
	EXPECT(syscall(SYS_writev, -1, few, 1UL << 32 | 3));
	EXPECT(syscall(SYS_writev, -1, 0, 3UL));
	EXPECT(syscall(SYS_writev, -1, 8UL, 3UL));
	/* The call touches the page; the device reads nothing. */
	EXPECT(syscall(SYS_writev, open("/dev/null", O_WRONLY), late, 2UL) == 1);

	EXPECT(!pipe(pipes) && write(pipes[1], "x", 1) == 1);
	polled[0].fd = pipes[0];
	polled[1].fd = pipes[1];
	EXPECT(syscall(SYS_ppoll, polled, 2, 0, 0, 8) == 2);

	epoll = epoll_create1(0);
	EXPECT(epoll >= 0);
	EXPECT(!epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &waiting));
	memset(got, 0xee, sizeof(got));
	EXPECT(syscall(SYS_epoll_pwait, epoll, got, 4, 0, 0, 8) == 1);
	EXPECT(read(pipes[0], got, 1) == 1);
	EXPECT(!syscall(SYS_epoll_pwait, epoll, got, 4, 0, 0, 8));
}

static void execute(void)
{
	char *const few[] = { "ls", "-l", "a \"b\"", "", 0 };
	char *const environment[] = { "A=1", 0 };
	char *const bad[] = { "x", (char *)8, "y", 0 };
	char *many[41] = { 0 }, *large[10] = { 0 };
	char *late[] = { "x", untouched("late", 5), 0 };
	char exact[256] = { 0 }, *exactly[33] = { 0 };
	/* Volatile, lest the compiler knows and warns. */
	char **volatile nowhere = (char **)8;
	char **edge;
	int number;

	EXPECT(execve("/nofault/few", few, environment) && errno == ENOENT);
	EXPECT(execve("/nofault/bad", bad, 0));
	for (int i = 0; i < 40; i++)
		many[i] = "m";
	EXPECT(execve("/nofault/many", many, 0));
	memset(exact, 'e', 255);
	for (int i = 0; i < 9; i++)
		large[i] = exact;
	EXPECT(execve("/nofault/large", large, 0));
	for (int i = 0; i < 32; i++)
		exactly[i] = "x";
	EXPECT(execve("/nofault/exactly", exactly, 0));
	EXPECT(execve("/nofault/none", nowhere, 0));
	/* The next page is not there. */
	edge = (char **)((char *)mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + PAGE - sizeof(char *));
	EXPECT(!munmap((char *)edge + sizeof(char *), PAGE));
	*edge = "edge";
	EXPECT(execve("/nofault/edge", edge, 0));
	/* It takes its arguments before it finds that it is no program. */
	number = open(in_directory("data"), O_WRONLY | O_CREAT, 0700);
	EXPECT(number >= 0 && write(number, "\1\2\3\4", 4) == 4 && !close(number));
	EXPECT(execve(in_directory("data"), late, environment) && errno == ENOEXEC);
	execve("/bin/true", (char *[]){ "true", "one", 0 }, environment);
	EXPECT(0);
}

int main(int count, char **arguments)
{
	const struct { const char *name; void (*act)(void); } acts[] = {
		{ "read", read_times }, { "rewrite", rewrite }, { "interrupt", interrupt },
		{ "stat", write_stats }, { "connect", connect_all }, { "names", names },
		{ "open", open_all }, { "exec", execute }, { "vectors", vectors },
	};

	if (count != 3)
		return 2;
	directory = arguments[2];
	for (unsigned i = 0; i < sizeof(acts) / sizeof(*acts); i++)
		if (!strcmp(acts[i].name, arguments[1])) {
			acts[i].act();
			return 0;
		}
	return 2;
}
