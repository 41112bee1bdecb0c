/*
 * messages.h
 *	  What nodes say to each other: fences and their answers, orders, promises, reports.
 *
 * They travel over libpq as JSON (server/messages.c).
 */
#ifndef ELECTOR_MESSAGES_H
#define ELECTOR_MESSAGES_H

#include "records.h"

/* What can be asked of a peer, the most urgent first. */
typedef enum ElectorQuestion
{
	ELECTOR_ASK_FENCE,			/* argument: ElectorFenceRequest */
	ELECTOR_ASK_ESTABLISH,		/* argument: ElectorOrder */
	ELECTOR_ASK_PROMISE,		/* argument: ElectorPromiseRequest */
	ELECTOR_ASK_REPORT,			/* no argument */
	ELECTOR_QUESTIONS
} ElectorQuestion;

typedef struct ElectorFenceRequest
{
	uint64_t	term;
	int64_t		token;
	uint64_t	opened_term;	/* newest term that opened, as the elector
								 * knows */
	uint64_t	over;			/* newest one that is over by its leader's own
								 * word, or since another followed it (S8) */
} ElectorFenceRequest;

/* What a member says when it is fenced, or why it did not. */
typedef enum ElectorAnswerKind
{
	ELECTOR_ANSWER_NONE,		/* not yet */
	ELECTOR_ANSWER_FENCED,		/* obeyed; the other fields hold */
	ELECTOR_ANSWER_REFUSED,		/* keeps a newer term; see kept_term */
	ELECTOR_ANSWER_FAILED		/* cannot be reached, or said something else */
} ElectorAnswerKind;

typedef struct ElectorAnswer
{
	ElectorAnswerKind kind;
	char		instance[ELECTOR_INSTANCE_SIZE];
	char		directory[ELECTOR_INSTANCE_SIZE];
	uint64_t	kept_term;		/* highest term it has obeyed */
	uint64_t	remembered;		/* newest leadership it has heard of (S15) */
	uint32_t	kept_timeline;	/* highest timeline it has heard of */
	ElectorPosition position;	/* the last WAL record it holds (S5) */
	bool		primary;		/* not in recovery: candidate in place only */
	bool		counts;			/* its history is known not to have been lost
								 * (S10) */
	bool		candidate;
	int32_t		priority;
	bool		etcd;			/* it is in touch with etcd, and not refused:
								 * it can establish itself */
	bool		lag_known;		/* it heard of the leader in the leader's last
								 * TTL */
	int64_t		lag;			/* bytes it is behind what the leader last
								 * told */
} ElectorAnswer;

/* An order to establish itself, with what its history entry is to say. */
typedef struct ElectorOrder
{
	uint64_t	term;
	int64_t		token;
	uint32_t	timeline;
	char		instance[ELECTOR_INSTANCE_SIZE];	/* who was chosen, and at
													 * which */
	ElectorPosition position;	/* position (S10) */
	char		elector[ELECTOR_NAME_SIZE];
	char		reason[ELECTOR_TEXT_SIZE];
	char		revoked[ELECTOR_NAME_SIZE];
	char		note[ELECTOR_TEXT_SIZE];
	bool		automatic;
	int32_t		notice_ms;
	int32_t		lock_ms;
	int32_t		revoke_ms;
	int32_t		choose_ms;
} ElectorOrder;

/*
 * The leader asks to be promised that nobody else is elected for so long, counted from
 * when it asks by its own clock, and from when it is asked by the other's (S8).
 */
typedef struct ElectorPromiseRequest
{
	uint64_t	term;
	char		instance[ELECTOR_INSTANCE_SIZE];	/* the leader's */
	int64_t		asked_at;		/* by the leader's clock; the answer says it again */
	int64_t		lasts_ms;
	bool		open;			/* the leader's gate, when it asked */
} ElectorPromiseRequest;

typedef struct ElectorPromise
{
	bool		given;
	char		directory[ELECTOR_INSTANCE_SIZE];
	uint64_t	term;
	int64_t		asked_at;
	int64_t		lasts_ms;
} ElectorPromise;

/* What a node tells of itself: a row of elector_status. */
typedef struct ElectorReport
{
	bool		present;
	char		node[ELECTOR_NAME_SIZE];
	char		instance[ELECTOR_INSTANCE_SIZE];
	bool		leads;			/* gate open, now */
	char		state[ELECTOR_NAME_SIZE];
	char		detail[ELECTOR_TEXT_SIZE];
	uint64_t	term;			/* led or followed */
	uint64_t	remembered;		/* newest leadership it has heard of (S15) */
	uint32_t	timeline;
	ElectorLsn	lsn;			/* leader: end of WAL; follower: received */
	ElectorLsn	replayed;
	int64_t		lease_ms_left;
	bool		streaming;
	bool		candidate;
	bool		full;			/* has no room for WAL */
	int32_t		priority;
	bool		stopping;		/* a shutdown was requested */
} ElectorReport;

#endif							/* ELECTOR_MESSAGES_H */
