/*
 * tap.h
 *	  TAP for C programs: no plan in front, the count comes at the end.
 *
 * A program runs its checks and ends in `return done_testing();`.  Include it
 * once a program.
 */
#ifndef ELECTOR_TAP_H
#define ELECTOR_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int	tap_count = 0;
static int	tap_failed = 0;

#define TAP_UNUSED __attribute__((unused))
#define TAP_PRINTF(fmt, args) __attribute__((unused, format(printf, fmt, args)))

static bool TAP_PRINTF(2, 0)
tap_result(bool good, const char *fmt, va_list args)
{
	printf("%sok %d - ", good ? "" : "not ", ++tap_count);
	vprintf(fmt, args);
	putchar('\n');
	if (!good)
		tap_failed++;
	fflush(stdout);				/* or a fork would print it twice */
	return good;
}

static bool TAP_PRINTF(2, 3)
ok(bool good, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	tap_result(good, fmt, args);
	va_end(args);
	return good;
}

static bool TAP_PRINTF(3, 4)
is_int(long long got, long long expected, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	if (!tap_result(got == expected, fmt, args))
		printf("#   got %lld, expected %lld\n", got, expected);
	va_end(args);
	return got == expected;
}

static bool TAP_PRINTF(3, 4)
is_str(const char *got, const char *expected, const char *fmt,...)
{
	bool		good = got != NULL && strcmp(got, expected) == 0;
	va_list		args;

	va_start(args, fmt);
	if (!tap_result(good, fmt, args))
		printf("#   got \"%s\", expected \"%s\"\n", got == NULL ? "(null)" : got, expected);
	va_end(args);
	return good;
}

static void TAP_PRINTF(2, 3)
skip(int count, const char *fmt,...)
{
	va_list		args;

	for (int i = 0; i < count; i++)
	{
		printf("ok %d # SKIP ", ++tap_count);
		va_start(args, fmt);
		vprintf(fmt, args);
		va_end(args);
		putchar('\n');
	}
	fflush(stdout);
}

/* The program's exit status. */
static int TAP_UNUSED
done_testing(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed == 0 ? 0 : 1;
}

#endif							/* ELECTOR_TAP_H */
