/*
 * main.c -- dsqlctl, the tool for people.
 */
#include <stdio.h>

#include "cli/cmd/cmd.h"

int main(int argc, char **argv)
{
    return cli_run(argc - 1, argv + 1, stdout, stderr);
}
