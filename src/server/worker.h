/*
 * worker.h
 *	  The worker: an elector, and what it takes to serve it.
 *
 * worker.c	the loop: pump, step, publish, wait
 * errands.c	the elector's errands to etcd
 * ports.c	the other ports: the server, the gate, the disk, the log
 * calls.c	what other processes ask
 * pgbouncer.c	the clients' PgBouncers
 * publish.c	what elector_status shows
 * slots.c	replication slots for the members
 */
#ifndef ELECTOR_WORKER_H
#define ELECTOR_WORKER_H

#include "library.h"

#include "etcd/client.h"
#include "etcd/mirror.h"

#include "messages.h"
#include "peers.h"
#include "pgbouncer.h"

typedef struct ElectorWorker
{
	Elector		elector;
	ElectorEtcd *etcd;
	ElectorMirror mirror;

	/* why our own conninfo does not work, or "" */
	char		access_error[ELECTOR_TEXT_SIZE];
} ElectorWorker;

extern ElectorWorker *elector_worker;

/* errands.c */
extern void elector_errands_init(void);
extern void elector_errands_settings(void);
extern void elector_errands_run(void *world, const ElectorErrand *errand);

/* ports.c */
extern void elector_ports_init(Elector *elector);
extern void elector_ports_settings(Elector *elector);

/* calls.c */
extern void elector_calls_reset(void);
extern void elector_calls_serve(void);
extern void elector_calls_answer(void);
extern void elector_calls_written(ElectorDeed deed, const ElectorErrandResult *result);
extern void elector_calls_peer_answered(const char *node, ElectorQuestion question,
										const char *answer, const char *error);

/* disk.c; the latter returns when to look again at the latest */
extern void elector_disk_look(ElectorServer *server);
extern ElectorTime elector_disk_next(ElectorTime now);

/* staleness.c; the latter returns when it must run again at the latest */
extern void elector_staleness_told(const char *node, const ElectorReport *report);
extern ElectorTime elector_staleness_step(ElectorTime now);

/* publish.c */
extern void elector_publish(void);

/* slots.c */
extern void elector_slots_keep(void);
extern const char *elector_slots_problem(void); /* "" if there is none */

#endif							/* ELECTOR_WORKER_H */
