/*
 * json.h
 *	  The records of src/core/records.h as the JSON values of etcd's keys.
 *
 * Reading is strict about what matters and tolerant of what it does not know:
 * a missing or mistyped required field, an over-long string or a number out of
 * range makes the whole record invalid (false, result zeroed); unknown fields
 * are ignored.  64-bit numbers and LSNs are strings, as PostgreSQL prints them.
 * The caller fills in what is not in the value: node names that are in the key,
 * leases, and revisions.
 */
#ifndef ELECTOR_ETCD_JSON_H
#define ELECTOR_ETCD_JSON_H

#include "../core/records.h"

/* Each returns a string to free(), or NULL if memory is out. */
extern char *elector_member_to_json(const ElectorMember *member);
extern char *elector_alive_to_json(const ElectorAlive *alive);
extern char *elector_leader_to_json(const ElectorLeader *leader);
extern char *elector_election_to_json(const ElectorElection *election);
extern char *elector_term_to_json(const ElectorTerm *term);
extern char *elector_history_to_json(const ElectorHistory *history);
extern char *elector_request_to_json(const ElectorRequest *request);
extern char *elector_durability_to_json(const ElectorDurability *durability);
extern char *elector_failsafe_to_json(const ElectorFailsafe *failsafe);
extern char *elector_settings_to_json(const ElectorClusterSettings *settings);

extern bool elector_member_from_json(const char *json, ElectorMember *member);
extern bool elector_alive_from_json(const char *json, ElectorAlive *alive);
extern bool elector_leader_from_json(const char *json, ElectorLeader *leader);
extern bool elector_election_from_json(const char *json, ElectorElection *election);
extern bool elector_term_from_json(const char *json, ElectorTerm *term);
extern bool elector_history_from_json(const char *json, ElectorHistory *history);
extern bool elector_request_from_json(const char *json, ElectorRequest *request);
extern bool elector_durability_from_json(const char *json, ElectorDurability *durability);
extern bool elector_failsafe_from_json(const char *json, ElectorFailsafe *failsafe);
extern bool elector_settings_from_json(const char *json, ElectorClusterSettings *settings);

#endif							/* ELECTOR_ETCD_JSON_H */
