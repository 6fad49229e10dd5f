#include "count.h"

#include <ctype.h>
#include <stdio.h>

#include "table.h"

enum { LONGEST = 255 };

static void count_stream(FILE *stream, struct table *table)
{
    char word[LONGEST];
    size_t length = 0;
    int c;
    do {
        c = getc(stream);
        if (c != EOF && isalnum(c) && length < sizeof word) {
            word[length++] = (char)tolower(c);
        } else if (length > 0) {
            table_count(table, word, length);
            length = 0;
        }
    } while (c != EOF);
}

void *count_file(void *argument)
{
    struct count *count = argument;
    FILE *stream = fopen(count->path, "r");
    if (!stream) {
        count->failed = 1;
        return NULL;
    }
    struct table *table = table_new();
    count_stream(stream, table);
    count->words = table_words(table);
    count->total = table_total(table);
    table_free(table);
    fclose(stream);
    return NULL;
}
