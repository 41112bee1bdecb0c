/*
 * messages.h
 *	  What nodes say to each other over libpq, as JSON.
 */
#ifndef ELECTOR_SERVER_MESSAGES_H
#define ELECTOR_SERVER_MESSAGES_H

#include "library.h"

/* Text that does not fit in size is refused; false on anything malformed. */
extern bool elector_report_format(const ElectorReport *report, char *text, size_t size);
extern bool elector_report_parse(const char *text, ElectorReport *report);
extern bool elector_fence_format(const ElectorFenceRequest *request, char *text, size_t size);
extern bool elector_fence_parse(const char *text, ElectorFenceRequest *request);
extern bool elector_answer_format(const ElectorAnswer *answer, char *text, size_t size);
extern bool elector_answer_parse(const char *text, ElectorAnswer *answer);
extern bool elector_order_format(const ElectorOrder *order, char *text, size_t size);
extern bool elector_order_parse(const char *text, ElectorOrder *order);
extern bool elector_promise_request_format(const ElectorPromiseRequest *request,
										   char *text, size_t size);
extern bool elector_promise_request_parse(const char *text, ElectorPromiseRequest *request);
extern bool elector_promise_format(const ElectorPromise *promise, char *text, size_t size);
extern bool elector_promise_parse(const char *text, ElectorPromise *promise);

#endif							/* ELECTOR_SERVER_MESSAGES_H */
