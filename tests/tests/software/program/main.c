#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "count.h"

/* Prints how many different words each file has, how many in all, and what their
 * ratio is in decibels. */
int main(int argc, char **argv)
{
    size_t files = (size_t)argc - 1;
    struct count *counts = calloc(files, sizeof *counts);
    pthread_t *threads = calloc(files, sizeof *threads);
    for (size_t i = 0; i < files; i++) {
        counts[i].path = argv[i + 1];
        if (pthread_create(&threads[i], NULL, count_file, &counts[i]) != 0)
            return EXIT_FAILURE;
    }
    for (size_t i = 0; i < files; i++) {
        pthread_join(threads[i], NULL);
        if (counts[i].failed) {
            perror(counts[i].path);
            return EXIT_FAILURE;
        }
        double ratio = (double)counts[i].words / (double)counts[i].total;
        printf("%zu %zu %.2f %s\n", counts[i].words, counts[i].total, 10 * log10(ratio),
               counts[i].path);
    }
    free(threads);
    free(counts);
}
