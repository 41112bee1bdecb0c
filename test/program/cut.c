/*
 * cut.c
 *	  Power cuts at a chosen step, for a program that works on files.
 *
 * Preloaded (LD_PRELOAD), this counts the calls that change a directory or ask
 * for durability, and kills the process just before number CUT_AT of them.  The
 * programs it starts are left alone.
 *
 * What a real power cut does beyond this, losing what was not yet written back,
 * is not modelled.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int	calls;
static int	cut_at;
static pid_t whole;

static void __attribute__((constructor))
begin(void)
{
	const char *at = getenv("CUT_AT");

	cut_at = at ? atoi(at) : 0;
	whole = getpid();
	unsetenv("LD_PRELOAD");
}

static void
step(void)
{
	if (getpid() == whole && ++calls == cut_at)
		kill(whole, SIGKILL);
}

#define STEP(name, parameters, arguments) \
int \
name parameters \
{ \
	static int	(*real) parameters; \
\
	if (!real) \
		*(void **) &real = dlsym(RTLD_NEXT, #name); \
	step(); \
	return real arguments; \
}

STEP(rename, (const char *from, const char *to), (from, to))
STEP(unlink, (const char *path), (path))
STEP(rmdir, (const char *path), (path))
STEP(mkdir, (const char *path, mode_t mode), (path, mode))
STEP(symlink, (const char *target, const char *path), (target, path))
STEP(fsync, (int fd), (fd))
