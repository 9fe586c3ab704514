/* Reports to clients, as coffer-keyd made and signed them (doc/format-report.md): printed as a page and on a terminal. */
#ifndef COFFER_TOOLS_REPORT_H
#define COFFER_TOOLS_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Members of an object; "" and 0 when they are not there. */
const char *report_text(const json_t *o, const char *key);
int64_t report_number(const json_t *o, const char *key);
/* "28 Nov 2026" of a time as text; "" of none.  buf is returned. */
#define REPORT_DAY_MAX 32
char *report_day(const json_t *o, const char *key, char buf[REPORT_DAY_MAX]);
char *report_day_of(int64_t t, char buf[REPORT_DAY_MAX]);
/* "28 Nov 2026, 09:45 UTC" */
#define REPORT_WHEN_MAX 64
char *report_when(const json_t *o, const char *key, char buf[REPORT_WHEN_MAX]);
int64_t report_seconds(const json_t *o, const char *key); /* of a time as text; 0: none */
/* With commas: 1,234,567. */
#define REPORT_NUMBER_MAX 32
char *report_count(int64_t n, char buf[REPORT_NUMBER_MAX]);

/* The page: one file that needs nothing else and no script.  0, or -EIO. */
int report_page(FILE *f, const json_t *envelope);

/* ---- charts (report_charts.c) ---- */
/* How often files were opened, by purpose and week (or several weeks); then the same as a table. */
#define CHART_PURPOSES_MAX 8 /* the last stands for all that are left */
#define CHART_BINS_MAX 53
struct chart {
	const char *ids[CHART_PURPOSES_MAX], *titles[CHART_PURPOSES_MAX];
	size_t purposes, bins, weeks_a_bin;
	int64_t first; /* Monday of the first bin */
	int64_t opens[CHART_BINS_MAX][CHART_PURPOSES_MAX];
	int64_t most; /* of a bin */
	bool others; /* the last of the purposes are all others */
};
void chart_fill(const json_t *report, struct chart *ret);
void chart_draw(FILE *f, const struct chart *c);
void chart_table(FILE *f, const struct chart *c);
/* When which data go; draws nothing when no date is known.  False: nothing was drawn. */
bool chart_retention(FILE *f, const json_t *report);

#endif
