/* A set of words with a number each. */
#ifndef TABLE_H
#define TABLE_H

#include <stddef.h>

struct table;

struct table *table_new(void);
void table_free(struct table *table);

/* Adds one to the word's number. */
void table_count(struct table *table, const char *word, size_t length);

/* How many different words there are, and how many in all. */
size_t table_words(const struct table *table);
size_t table_total(const struct table *table);

#endif
