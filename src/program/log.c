/*
 * log.c
 *	  Lines on standard error that look like the server's own.
 *
 * The server's settings are not known here, so these have its default prefix:
 * time and process id, which is the postmaster's.  Commands that a person types
 * (options.c) say the same in the way of PostgreSQL's other programs.
 */
#include "program.h"

#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static bool plainly = false;

void
elector_log_plainly(void)
{
	plainly = true;
}

static void
say(const char *level, const char *format, va_list args)
{
	struct timeval now;
	struct tm	local;
	char		stamp[64];
	char		zone[32];
	char		text[4096];

	vsnprintf(text, sizeof(text), format, args);
	if (plainly)
	{
		fprintf(stderr, "%s%s\n", level, text);
		return;
	}
	gettimeofday(&now, NULL);
	localtime_r(&now.tv_sec, &local);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &local);
	strftime(zone, sizeof(zone), "%Z", &local);

	/* one write per line, so that lines of several processes do not mix */
	fprintf(stderr, "%s.%03d %s [%d] %s:  %s\n", stamp,
			(int) (now.tv_usec / 1000), zone, (int) getpid(), level, text);
	fflush(stderr);
}

void
elector_log(ElectorLevel level, const char *format,...)
{
	static const char *const names[] = {
		[ELECTOR_LOG] = "LOG",
		[ELECTOR_WARNING] = "WARNING",
		[ELECTOR_FATAL] = "FATAL"
	};
	static const char *const plain_names[] = {
		[ELECTOR_LOG] = "",
		[ELECTOR_WARNING] = "warning: ",
		[ELECTOR_FATAL] = "error: "
	};
	char		prefixed[1024];
	va_list		args;

	snprintf(prefixed, sizeof(prefixed), "pg_elector: %s%s", plainly ? plain_names[level] : "",
			 format);
	va_start(args, format);
	say(plainly ? "" : names[level], prefixed, args);
	va_end(args);
}

void
elector_log_detail(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	say(plainly ? "pg_elector: detail: " : "DETAIL", format, args);
	va_end(args);
}

void
elector_log_hint(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	say(plainly ? "pg_elector: hint: " : "HINT", format, args);
	va_end(args);
}
