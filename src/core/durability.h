/*
 * durability.h
 *	  What makes a commit durable, as a rule over sets of members.
 *
 * See durability.c.
 */
#ifndef ELECTOR_DURABILITY_H
#define ELECTOR_DURABILITY_H

#include "view.h"

typedef enum ElectorDurability
{
	ELECTOR_DURABILITY_ASYNC	/* the leader's word alone */
} ElectorDurability;

/* Read pg_elector.durability; false, with a message, if it is no policy. */
extern bool elector_durability_parse(const char *text, ElectorDurability *policy,
									 const char **message);

/*
 * Do the members that were fenced intersect every set that could have
 * acknowledged a commit of the leaders on record (S7)?
 */
extern bool elector_durability_revoked(const ElectorView *view);

/*
 * May a node lead that lacks, or may lack, what the last leader wrote, when
 * nobody better has come for long enough (I7)?
 */
extern bool elector_durability_may_lose(const ElectorView *view);

/* Could the candidate's followers, of those that answered, acknowledge? */
extern bool elector_durability_can_establish(const ElectorView *view, int candidate);

/*
 * Has an acknowledging set flushed past the beginning of the term, so that the
 * gate may open (S13)?
 */
extern bool elector_durability_may_open(const ElectorView *view);

#endif							/* ELECTOR_DURABILITY_H */
