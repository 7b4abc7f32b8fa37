/* Prints the options table for the README (markdown) and for the manual (mdoc), from the rows that
 * --help is printed from. */
#include "agent/option_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A bar would end the table's cell. */
static void print_cell(const char *text)
{
	for (; *text; text++)
		printf(*text == '|' ? "\\%c" : "%c", *text);
}

static void markdown(const struct option_row *row, const char *preset)
{
	if (row->group)
		printf("| **%s** | | |\n", row->group);
	printf("| `--%s%s%s` | %s%s%s | ", row->name, row->value ? " " : "",
	    row->value ? row->value : "", *preset ? "`" : "", preset, *preset ? "`" : "");
	print_cell(row->help);
	puts(" |");
}

static void mdoc(const struct option_row *row, const char *preset)
{
	printf(".It Fl -%s", row->name);
	if (row->value)
		printf(" Ar %s", row->value);
	printf("\n%c%s.\n", row->help[0], row->help + 1);
	if (*preset)
		printf("Default: %s.\n", preset);
}

int main(int argc, char **argv)
{
	bool man = argc == 2 && strcmp(argv[1], "mdoc") == 0;
	char preset[128];

	if (argc != 2 || (!man && strcmp(argv[1], "markdown") != 0)) {
		fputs("usage: optdoc markdown|mdoc\n", stderr);
		return 2;
	}
	if (!man)
		puts("| option | default | what it is |\n| --- | --- | --- |");
	for (size_t i = 0; i < option_row_count; i++) {
		option_default_text(&option_rows[i], preset, sizeof preset);
		(man ? mdoc : markdown)(&option_rows[i], preset);
	}
	return EXIT_SUCCESS;
}
