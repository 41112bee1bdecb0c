/*
 * value.h
 *	  Strict reading of JSON values, for gateway.c and fields.c.
 */
#ifndef ELECTOR_ETCD_VALUE_H
#define ELECTOR_ETCD_VALUE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One whole document, nothing after it; text[length] must be NUL. */
extern cJSON *elector_value_parse(const char *text, size_t length);

/* The named member, or NULL; a JSON null counts as not there. */
extern cJSON *elector_value_get(const cJSON *object, const char *name);

/* Decimal numbers, in a string or as a number that a double holds exactly. */
extern bool elector_value_int64(const cJSON *value, int64_t min, int64_t max,
								int64_t *result);
extern bool elector_value_uint64(const cJSON *value, uint64_t *result);

#endif							/* ELECTOR_ETCD_VALUE_H */
