/*
 * tmpdir.c -- see tmpdir.h. Below TMPDIR if that is set and short, else below /tmp.
 */
#include "tests/unit/storage/tmpdir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool tmpdir_make(char path[64])
{
    const char *base = getenv("TMPDIR");

    if (base == NULL || strlen(base) > 40) {
        base = "/tmp";
    }
    (void)snprintf(path, 64, "%s/dsql-test-XXXXXX", base);
    return mkdtemp(path) != NULL;
}

void tmpdir_remove(const char *path)
{
    DIR *d = opendir(path);

    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d)) {
        char file[400];

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        (void)snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
        (void)unlink(file);
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    (void)rmdir(path);
}
