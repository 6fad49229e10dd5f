#include "table.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024 };

struct entry {
    struct entry *next;
    size_t number;
    size_t length;
    char word[];
};

struct table {
    struct entry *buckets[BUCKETS];
    size_t words;
    size_t total;
};

/* Fowler, Noll and Vo's hash. */
static uint32_t hash(const char *word, size_t length)
{
    uint32_t value = 2166136261u;
    for (size_t i = 0; i < length; i++)
        value = (value ^ (unsigned char)word[i]) * 16777619u;
    return value;
}

struct table *table_new(void)
{
    struct table *table = calloc(1, sizeof *table);
    if (!table)
        abort();
    return table;
}

void table_free(struct table *table)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct entry *entry = table->buckets[i]; entry;) {
            struct entry *next = entry->next;
            free(entry);
            entry = next;
        }
    }
    free(table);
}

static struct entry *find(struct entry *entry, const char *word, size_t length)
{
    while (entry && (entry->length != length || memcmp(entry->word, word, length) != 0))
        entry = entry->next;
    return entry;
}

void table_count(struct table *table, const char *word, size_t length)
{
    struct entry **bucket = &table->buckets[hash(word, length) % BUCKETS];
    struct entry *entry = find(*bucket, word, length);
    if (!entry) {
        entry = malloc(sizeof *entry + length);
        if (!entry)
            abort();
        *entry = (struct entry){ .next = *bucket, .length = length };
        memcpy(entry->word, word, length);
        *bucket = entry;
        table->words++;
    }
    entry->number++;
    table->total++;
}

size_t table_words(const struct table *table)
{
    return table->words;
}

size_t table_total(const struct table *table)
{
    return table->total;
}
