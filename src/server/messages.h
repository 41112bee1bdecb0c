/*
 * messages.h
 *	  What nodes say to each other over libpq, as JSON.
 */
#ifndef ELECTOR_MESSAGES_H
#define ELECTOR_MESSAGES_H

#include "elector.h"

typedef struct ElectorFenceRequest
{
	uint64		term;
	int64		token;
	uint64		opened_term;	/* newest term that opened, as the elector
								 * knows */
} ElectorFenceRequest;

/* An order to establish itself, with what its history entry is to say. */
typedef struct ElectorOrder
{
	uint64		term;
	int64		token;
	uint32		timeline;
	char		instance[ELECTOR_INSTANCE_SIZE];	/* who was chosen, and at
													 * which */
	ElectorPosition position;	/* position (S10) */
	char		elector[ELECTOR_NAME_SIZE];
	char		reason[ELECTOR_TEXT_SIZE];
	char		revoked[ELECTOR_NAME_SIZE];
	char		note[ELECTOR_TEXT_SIZE];
	bool		automatic;
	int32		lock_ms;
	int32		revoke_ms;
} ElectorOrder;

/* Text that does not fit in size is refused; false on anything malformed. */
extern bool elector_report_format(const ElectorReport *report, char *text, size_t size);
extern bool elector_report_parse(const char *text, ElectorReport *report);
extern bool elector_fence_format(const ElectorFenceRequest *request, char *text, size_t size);
extern bool elector_fence_parse(const char *text, ElectorFenceRequest *request);
extern bool elector_answer_format(const ElectorAnswer *answer, char *text, size_t size);
extern bool elector_answer_parse(const char *text, ElectorAnswer *answer);
extern bool elector_order_format(const ElectorOrder *order, char *text, size_t size);
extern bool elector_order_parse(const char *text, ElectorOrder *order);

#endif							/* ELECTOR_MESSAGES_H */
