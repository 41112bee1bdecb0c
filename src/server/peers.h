/*
 * peers.h
 *	  The worker's connections to the other members.
 */
#ifndef ELECTOR_PEERS_H
#define ELECTOR_PEERS_H

#include "library.h"
#include "storage/latch.h"

#include "etcd/mirror.h"

/*
 * The outcome of a question: answer is NULL if the peer could not be asked or
 * said an error, which `error` then tells in one line.
 */
typedef void (*ElectorPeerCallback) (const char *node, ElectorQuestion question,
									 const char *answer, const char *error);

extern void elector_peers_init(ElectorPeerCallback callback);

/* Connect to the members of the mirror, and to nobody else. */
extern void elector_peers_sync(const ElectorMirror *mirror);

/* argument is copied; a question of the same kind not yet sent is replaced. */
extern void elector_peers_ask(const char *node, ElectorQuestion question,
							  const char *argument);
extern void elector_peers_hurry(void);
extern void elector_peers_forget(ElectorQuestion question);

/* Since when has the peer not answered; 0: it has answered what it was asked. */
extern ElectorTime elector_peers_silent_since(const char *node);

/* When what it answers now was asked; for the callback. */
extern ElectorTime elector_peers_asked_at(const char *node);

/* Why it cannot be reached, or "". */
extern const char *elector_peers_error(const char *node);

/* Make progress; never blocks.  Returns when it must run again at the latest. */
extern ElectorTime elector_peers_pump(ElectorTime now);

extern void elector_peers_disconnect(const char *node);
extern int	elector_peers_count(void);
extern void elector_peers_add_events(WaitEventSet *set);

#endif							/* ELECTOR_PEERS_H */
