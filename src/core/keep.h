/*
 * keep.h
 *	  What WAL a node need not keep for the others.
 */
#ifndef ELECTOR_KEEP_H
#define ELECTOR_KEEP_H

#include "view.h"

/*
 * Up to where does member i hold the WAL of the history that this node is on?  It
 * needs none of that from here.  0: not known.
 */
extern ElectorLsn elector_keep_from(const ElectorView *view, int i);

/*
 * Are those who are members now all that there are?  An etcd that was wiped or
 * restored, and a change of the leader, must not make a node forget the others.
 */
extern bool elector_keep_settled(const ElectorView *view);

#endif							/* ELECTOR_KEEP_H */
