/*
 * notice.h
 *	  What an operator should know of the way to etcd: one line at each change.
 *
 * The client calls back for it from elector_etcd_pump().  Nothing secret is in a
 * notice.
 */
#ifndef ELECTOR_ETCD_NOTICE_H
#define ELECTOR_ETCD_NOTICE_H

#include <stdbool.h>

#define ELECTOR_PROBLEM_SIZE	512

/* hint: what to do, or "" */
typedef void (*ElectorEtcdNotice) (void *arg, bool trouble, const char *message,
								   const char *hint);

typedef struct ElectorNotices
{
	ElectorEtcdNotice callback; /* NULL: nobody listens */
	void	   *arg;
} ElectorNotices;

/* A hint is a constant; the message is formatted. */
extern void elector_notice(const ElectorNotices *notices, bool trouble, const char *hint,
						   const char *fmt,...)
			__attribute__((format(printf, 4, 5)));

#endif							/* ELECTOR_ETCD_NOTICE_H */
