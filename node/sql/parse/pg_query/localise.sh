#!/bin/sh
# localise-pg-query.sh ARCHIVE OUTDIR KEEP: an archive of libpg_query whose other names are local.
set -eu
cd "$2"
rm -f all.o loc.o keep libpgq.a
ld -r --whole-archive "$1" -o all.o
nm --defined-only all.o | awk '$2 ~ /[TDBR]/ {print $3}' | grep '^pg_query_' > keep
grep -v '^#' "$3" >> keep
objcopy --keep-global-symbols=keep all.o loc.o
ar rcs libpgq.a loc.o
rm -f all.o loc.o
