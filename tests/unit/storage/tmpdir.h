/*
 * tmpdir.h -- a directory for one test.
 */
#pragma once

#include <stdbool.h>

/* Makes an empty directory and writes its path (below 64 bytes). */
bool tmpdir_make(char path[64]);

/* Removes it with all files in it (one level). */
void tmpdir_remove(const char *path);
