/*
 * facts.h
 *	  What this node is, and what its elector has published, for processes that
 *	  must not wait for the elector.
 */
#ifndef ELECTOR_FACTS_H
#define ELECTOR_FACTS_H

#include "library.h"

/* What this node is at this moment, by the clock. */
typedef enum ElectorRole
{
	ELECTOR_ROLE_NONE,			/* a primary whose gate is closed */
	ELECTOR_ROLE_LEADER,
	ELECTOR_ROLE_FOLLOWER		/* a standby, whoever leads */
} ElectorRole;

/* A copy of what the elector published in its last round; see ElectorShared. */
typedef struct ElectorFacts
{
	char		leader[ELECTOR_NAME_SIZE];
	ElectorReport self;
	ElectorLeaseStatus lease;
	ElectorRenewals renewals;
	uint64		term;
	bool		paused;
	ElectorLsn	leader_end;
	ElectorTime leader_told_at;
	int			nrows;
	ElectorStatusRow rows[ELECTOR_MEMBERS_MAX];
	int			nhistory;
	ElectorHistory history[ELECTOR_HISTORY_MAX];
	ElectorDurability durability;
	bool		safe;
	char		missing[ELECTOR_TEXT_SIZE];
} ElectorFacts;

extern ElectorRole elector_role(void);
extern const char *elector_role_name(ElectorRole role);

/* False, and nothing changed, if the elector stands still while it publishes. */
extern bool elector_facts_read(ElectorFacts *facts);
extern bool elector_facts_read_leader(char *leader, uint64 *term);

/* For the worker: what is published changes between these. */
extern void elector_facts_begin(void);
extern void elector_facts_end(void);

#endif							/* ELECTOR_FACTS_H */
