/* SPDX-License-Identifier: MIT */
/* Prints the fuzzers' dictionary of arguments: every name that stands in a command's rows. */

#include <stdio.h>

#include "cmds/command.h"
#include "cmds/table.h"

static void print_word(const char *word)
{
    if (word)
        printf("\"\\\"%s\\\"\"\n", word);
}

static void print_specs(const struct arg_spec *specs)
{
    for (const struct arg_spec *spec = specs; spec && spec->name; spec++) {
        print_word(spec->name);
        print_word(spec->other_name);
        for (size_t i = 0; spec->names && spec->names[i]; i++)
            print_word(spec->names[i]);
        print_specs(spec->fields);
        if (spec->element)
            print_specs(spec->element->fields);
    }
}

int main(void)
{
    for (size_t i = 0; i < command_count(); i++)
        print_specs(command_at(i)->args);
    return 0;
}
