/*
 * durability.c
 *	  What makes a commit durable, as a rule over sets of members.
 *
 * Elections ask three questions of a policy: is the old leadership revoked, can
 * the candidate work, may its gate open.  `async` is the policy that promises
 * nothing beyond the leader's own disk, so its only acknowledging set is the
 * empty one and all three hold at once.  Any other policy answers from the
 * record under `durability` in etcd, and belongs here.
 */
#include "durability.h"

#include <string.h>

bool
elector_durability_parse(const char *text, ElectorDurability *policy,
						 const char **message)
{
	if (strcmp(text, "async") == 0)
	{
		*policy = ELECTOR_DURABILITY_ASYNC;
		return true;
	}
	*message = "the only policy is \"async\"";
	return false;
}

bool
elector_durability_revoked(const ElectorView *view)
{
	(void) view;
	return true;
}

bool
elector_durability_may_lose(const ElectorView *view)
{
	(void) view;
	return true;
}

bool
elector_durability_can_establish(const ElectorView *view, int candidate)
{
	(void) view;
	(void) candidate;
	return true;
}

bool
elector_durability_may_open(const ElectorView *view)
{
	(void) view;
	return true;
}
