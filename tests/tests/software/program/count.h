/* The words of one file. */
#ifndef COUNT_H
#define COUNT_H

#include <stddef.h>

struct count {
    const char *path;
    size_t words;
    size_t total;
    int failed;
};

/* Counts the words of `path`; the argument is a struct count. */
void *count_file(void *argument);

#endif
