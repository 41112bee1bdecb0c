/*
 * notice.c
 *	  What an operator should know of the way to etcd: one line at each change.
 */
#include <stdarg.h>
#include <stdio.h>

#include "notice.h"

void
elector_notice(const ElectorNotices *notices, bool trouble, const char *hint,
			   const char *fmt,...)
{
	char		message[2 * ELECTOR_PROBLEM_SIZE];
	va_list		args;

	if (notices->callback == NULL)
		return;
	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);

	/* one line, whatever a file is called */
	for (char *p = message; *p != '\0'; p++)
	{
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = '?';
	}
	notices->callback(notices->arg, trouble, message, hint);
}
