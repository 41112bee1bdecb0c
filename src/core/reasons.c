/*
 * reasons.c
 *	  The names of actions and reasons.
 */
#include "decide.h"

#include <assert.h>

static const struct
{
	const char *name;
	const char *sentence;
}			reasons[] =

{
#define ELECTOR_REASON(symbol, name, sentence) {name, sentence},
#include "reasons.h"
#undef ELECTOR_REASON
};

const char *
elector_reason_name(ElectorReason reason)
{
	assert(reason < ELECTOR_REASON_COUNT);
	return reasons[reason].name;
}

const char *
elector_reason_sentence(ElectorReason reason)
{
	assert(reason < ELECTOR_REASON_COUNT);
	return reasons[reason].sentence;
}

const char *
elector_action_name(ElectorAction action)
{
	switch (action)
	{
		case ELECTOR_WAIT:
			return "wait";
		case ELECTOR_REGISTER:
			return "register";
		case ELECTOR_CLOSE:
			return "close gate";
		case ELECTOR_RESIGN:
			return "resign";
		case ELECTOR_NOTE_BLOCKED:
			return "record what is blocked";
		case ELECTOR_LAPSE:
			return "let lease end";
		case ELECTOR_ASK_CHANGE:
			return "request switchover";
		case ELECTOR_RELEASE:
			return "release predecessor";
		case ELECTOR_FREEZE:
			return "freeze";
		case ELECTOR_FOLLOW:
			return "follow";
		case ELECTOR_DEMOTE:
			return "demote";
		case ELECTOR_REJOIN:
			return "rejoin";
		case ELECTOR_CLONE:
			return "clone";
		case ELECTOR_LOCK:
			return "lock";
		case ELECTOR_UNLOCK:
			return "unlock";
		case ELECTOR_CHECK_LEASE:
			return "check lease";
		case ELECTOR_EXPIRE:
			return "expire";
		case ELECTOR_FENCE:
			return "fence";
		case ELECTOR_ESTABLISH:
			return "establish";
		case ELECTOR_DROP_ORDER:
			return "drop order";
		case ELECTOR_TAKE:
			return "take";
		case ELECTOR_PROMOTE:
			return "promote";
		case ELECTOR_SET_FAILSAFE:
			return "record who has to promise";
		case ELECTOR_RETAKE:
			return "take the key again";
		case ELECTOR_OPEN:
			return "open gate";
		case ELECTOR_SET_NAMES:
			return "set synchronous_standby_names";
		case ELECTOR_BEGIN:
			return "begin";
		case ELECTOR_CHANGE_RULE:
			return "change durability rule";
		case ELECTOR_CHECKPOINT:
			return "checkpoint";
		case ELECTOR_PAUSE_CLIENTS:
			return "pause clients";
		case ELECTOR_DRAIN:
			return "drain";
		case ELECTOR_HANDOVER:
			return "hand over";
		case ELECTOR_CANCEL:
			return "cancel request";
	}
	assert(false);
	return "";
}
