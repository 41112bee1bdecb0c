/*
 * rules.h
 *	  The rules that can be broken on purpose.
 *
 * In the library every rule holds and ELECTOR_RULE() costs nothing.  The
 * simulator (test/sim) compiles these files once more with ELECTOR_BREAKABLE,
 * breaks one rule at a time, and must find what goes wrong then; a rule whose
 * absence nobody notices is either not needed or not checked.
 */
#ifndef ELECTOR_RULES_H
#define ELECTOR_RULES_H

#ifdef ELECTOR_BREAKABLE

typedef enum ElectorRule
{
#define ELECTOR_RULE_ROW(symbol, sentence) ELECTOR_RULE_##symbol,
#include "rules_table.h"
#undef ELECTOR_RULE_ROW
	ELECTOR_RULES
} ElectorRule;

extern ElectorRule elector_broken_rule; /* ELECTOR_RULES: none */

#define ELECTOR_RULE(symbol) (elector_broken_rule != ELECTOR_RULE_##symbol)

#else

#define ELECTOR_RULE(symbol) true

#endif

#endif							/* ELECTOR_RULES_H */
