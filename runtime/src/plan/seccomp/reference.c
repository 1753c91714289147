/* Test tool: libseccomp's answer to the same rules, and a loader that takes the time.
 *
 *   reference compile OPTIMIZE   rules on stdin, program on stdout
 *   reference load FILE ROUNDS   microseconds to load, the fastest of ROUNDS children
 *   reference exec FILE CMD...   loads the program, then executes CMD
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what, int error)
{
	fprintf(stderr, "reference: %s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(2);
}

/* default ACTION | arch TOKEN | rule ACTION NAME [INDEX OP VALUE VALUE2]... */
static int compile(unsigned optimize)
{
	char *line = NULL;
	size_t size = 0;
	scmp_filter_ctx filter = NULL;

	/* libseccomp 2.5.4 never comes back from some rules on many arguments. */
	alarm(5);
	while (getline(&line, &size, stdin) > 0) {
		char *word = strtok(line, " \n");
		if (!strcmp(word, "default")) {
			filter = seccomp_init(strtoul(strtok(NULL, " \n"), NULL, 10));
			if (!filter)
				die("seccomp_init", EINVAL);
			if (optimize)
				seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, optimize);
		} else if (!strcmp(word, "arch")) {
			int rc = seccomp_arch_add(filter, strtoul(strtok(NULL, " \n"), NULL, 10));
			if (rc && rc != -EEXIST)
				die("seccomp_arch_add", rc);
		} else {
			struct scmp_arg_cmp args[6];
			unsigned count = 0;
			uint32_t action = strtoul(strtok(NULL, " \n"), NULL, 10);
			char *name = strtok(NULL, " \n");
			int number = seccomp_syscall_resolve_name(name);
			for (char *index; (index = strtok(NULL, " \n"));) {
				args[count].arg = strtoul(index, NULL, 10);
				args[count].op = strtoul(strtok(NULL, " \n"), NULL, 10);
				args[count].datum_a = strtoull(strtok(NULL, " \n"), NULL, 10);
				args[count++].datum_b = strtoull(strtok(NULL, " \n"), NULL, 10);
			}
			if (number == __NR_SCMP_ERROR)
				continue;
			int rc = seccomp_rule_add_array(filter, action, number, count, args);
			/* The same conditions with another action: here runc gives up. */
			if (rc == -EEXIST)
				return 3;
			if (rc)
				die(name, rc);
		}
	}
	int rc = seccomp_export_bpf(filter, 1);
	if (rc)
		die("seccomp_export_bpf", rc);
	return 0;
}

static struct sock_fprog read_program(const char *path)
{
	static struct sock_filter insns[BPF_MAXINSNS];
	FILE *file = fopen(path, "r");
	if (!file)
		die(path, errno);
	size_t count = fread(insns, sizeof *insns, BPF_MAXINSNS, file);
	fclose(file);
	return (struct sock_fprog){ .len = count, .filter = insns };
}

static double load(struct sock_fprog program)
{
	struct timespec from, to;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		die("no_new_privs", errno);
	clock_gettime(CLOCK_MONOTONIC, &from);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		die("seccomp", errno);
	clock_gettime(CLOCK_MONOTONIC, &to);
	return (to.tv_sec - from.tv_sec) * 1e6 + (to.tv_nsec - from.tv_nsec) / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "compile"))
		return compile(atoi(argv[2]));
	if (argc == 4 && !strcmp(argv[1], "load")) {
		struct sock_fprog program = read_program(argv[2]);
		int rounds = atoi(argv[3]);
		/* Shared memory: a strict filter lets no write through. */
		double *times = mmap(NULL, rounds * sizeof *times, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		for (int round = 0; round < rounds; round++) {
			pid_t child = fork();
			if (child == 0) {
				times[round] = load(program);
				_exit(0);
			}
			waitpid(child, NULL, 0);
			if (times[round] == 0)
				die("child", EIO);
		}
		qsort(times, rounds, sizeof *times, compare);
		printf("%u insns: fastest %.1f us, median %.1f us\n", program.len, times[0],
		       times[rounds / 2]);
		return 0;
	}
	if (argc >= 4 && !strcmp(argv[1], "exec")) {
		load(read_program(argv[2]));
		execvp(argv[3], argv + 3);
		die(argv[3], errno);
	}
	fprintf(stderr, "usage: reference compile|load|exec\n");
	return 2;
}
