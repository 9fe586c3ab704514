/* Charts as SVG in the page.  Places are percentages, so they fit every width and their texts stay as large as the others;
 * each has a title and a description, and its figures stand in a table too. */
#include <inttypes.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/html.h"
#include "tools/report.h"

#define WEEK (7 * 86400)
#define SLOT_MAX 6.0 /* percent: a short time does not make fat bars */

/* ---- the figures ---- */

/* The purposes with most opens (the report has them in this order); of too many the rest is one. */
static void choose_purposes(const json_t *accesses, struct chart *c)
{
	const json_t *rows = json_object_get(accesses, "purposes"), *row;
	size_t i, all = 0;

	json_array_foreach((json_t *)rows, i, row)
		all += report_number(row, "opens") > 0;
	c->others = all > CHART_PURPOSES_MAX;
	json_array_foreach((json_t *)rows, i, row)
	{
		if (report_number(row, "opens") == 0 || c->purposes == CHART_PURPOSES_MAX - (size_t)c->others)
			continue;
		c->ids[c->purposes] = report_text(row, "purpose");
		c->titles[c->purposes++] = report_text(row, "title");
	}
	if (c->others) {
		c->ids[c->purposes] = "all others";
		c->titles[c->purposes++] = "";
	}
}

static size_t purpose_index(const struct chart *c, const char *id)
{
	for (size_t i = 0; i < c->purposes; i++)
		if (strcmp(c->ids[i], id) == 0)
			return i;
	return c->purposes - 1;
}

/* The weeks of the period; where it is long, from the first that has something. */
static void choose_bins(const json_t *report, const json_t *weeks, struct chart *c)
{
	int64_t last = report_seconds(json_object_get(report, "period"), "until") - 1, made = report_seconds(report, "made_at"), n;

	last = made < last ? made : last;
	c->first = report_seconds(json_array_get(weeks, 0), "week");
	if (report_seconds(json_array_get(weeks, json_array_size(weeks) - 1), "week") > last)
		last = report_seconds(json_array_get(weeks, json_array_size(weeks) - 1), "week");
	n = last > c->first ? (last - c->first) / WEEK + 1 : 1;
	c->weeks_a_bin = (size_t)(n + CHART_BINS_MAX - 1) / CHART_BINS_MAX;
	c->bins = ((size_t)n + c->weeks_a_bin - 1) / c->weeks_a_bin;
}

void chart_fill(const json_t *report, struct chart *ret)
{
	const json_t *accesses = json_object_get(report, "accesses"), *weeks = json_object_get(accesses, "weeks"), *row;
	size_t i;

	*ret = (struct chart){0};
	choose_purposes(accesses, ret);
	if (ret->purposes == 0 || json_array_size(weeks) == 0)
		return;
	choose_bins(report, weeks, ret);
	json_array_foreach((json_t *)weeks, i, row)
	{
		int64_t week = (report_seconds(row, "week") - ret->first) / WEEK;
		size_t bin = week < 0 ? 0 : (size_t)week / ret->weeks_a_bin;

		if (bin < ret->bins)
			ret->opens[bin][purpose_index(ret, report_text(row, "purpose"))] += report_number(row, "opens");
	}
	for (size_t bin = 0; bin < ret->bins; bin++) {
		int64_t sum = 0;

		for (i = 0; i < ret->purposes; i++)
			sum += ret->opens[bin][i];
		ret->most = sum > ret->most ? sum : ret->most;
	}
}

/* The top of the scale: 1, 2 or 5 times a power of ten, or a tenth of it more than needed. */
static int64_t scale_top(int64_t most)
{
	int64_t unit = 1;

	if (most <= 4)
		return 4;
	while (unit * 10 <= most)
		unit *= 10;
	for (int64_t n = 1; n <= 10; n++)
		if (unit * n >= most && (unit * n) % 2 == 0)
			return unit * n;
	return unit * 10;
}

/* ---- bars ---- */

static double slot(const struct chart *c)
{
	double w = 100.0 / (double)c->bins;

	return w > SLOT_MAX ? SLOT_MAX : w;
}

static const char *const colours[CHART_PURPOSES_MAX] = {"c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"}; /* report_style.h */

static void rect(FILE *f, double x, double y, double w, double h, const char *class)
{
	fprintf(f, "<rect x=\"%.3f%%\" y=\"%.3f%%\" width=\"%.3f%%\" height=\"%.3f%%\" class=\"%s\">", x, y, w, h, class);
}

static void bin_name(const struct chart *c, size_t bin, char *buf, size_t n)
{
	int64_t from = c->first + (int64_t)(bin * c->weeks_a_bin) * WEEK;
	char day[REPORT_DAY_MAX], last[REPORT_DAY_MAX];

	snprintf(buf, n, "%s \xe2\x80\x93 %s", report_day_of(from, day),
		report_day_of(from + (int64_t)c->weeks_a_bin * WEEK - 1, last));
}

static void draw_bin(FILE *f, const struct chart *c, size_t bin, int64_t top)
{
	double width = slot(c), y = 100;
	char name[2 * REPORT_DAY_MAX + 8], number[REPORT_NUMBER_MAX];

	bin_name(c, bin, name, sizeof(name));
	for (size_t i = 0; i < c->purposes; i++) {
		double h = 100.0 * (double)c->opens[bin][i] / (double)top;

		if (c->opens[bin][i] == 0)
			continue;
		y -= h;
		rect(f, (double)bin * width + width * 0.12, y, width * 0.76, h, colours[i]);
		html_literal(f, "<title>");
		html_printf(f, "%s, %s: %s", name, c->ids[i], report_count(c->opens[bin][i], number));
		html_literal(f, "</title></rect>");
	}
}

/* First, last, and one between where there is room. */
static void draw_days(FILE *f, const struct chart *c)
{
	char day[REPORT_DAY_MAX];
	double width = slot(c);
	size_t step = (size_t)(34.0 / width) + 1, last = c->bins - 1;

	html_literal(f, "<svg class=\"xaxis\" aria-hidden=\"true\">");
	for (size_t bin = 0; bin < c->bins; bin += step) {
		int64_t from = c->first + (int64_t)(bin * c->weeks_a_bin) * WEEK;
		double x = (double)bin * width + width * 0.12;

		if (bin != last && x > 80)
			break;
		fprintf(f, "<text x=\"%.3f%%\" y=\"14\">", x);
		html_text(f, report_day_of(from, day));
		html_literal(f, "</text>");
	}
	html_literal(f, "</svg>");
}

static void describe(FILE *f, const struct chart *c)
{
	char day[REPORT_DAY_MAX], number[REPORT_NUMBER_MAX];

	html_literal(f, "<title id=\"chart-title\">Files opened, by purpose and week</title><desc id=\"chart-desc\">");
	html_printf(f, "Stacked bars, one for each %s from %s on; the highest stands for %s.", c->weeks_a_bin == 1 ? "week" : "span of weeks",
		report_day_of(c->first, day), report_count(c->most, number));
	html_literal(f, " The figures stand in table A at the end.</desc>");
}

static void legend(FILE *f, const struct chart *c)
{
	html_literal(f, "<ul class=\"legend\">");
	for (size_t i = 0; i < c->purposes; i++) {
		html_literal(f, "<li><svg class=\"key\" aria-hidden=\"true\">");
		rect(f, 0, 0, 100, 100, colours[i]);
		html_literal(f, "</rect></svg>");
		html_text(f, c->ids[i]);
		html_literal(f, "</li>");
	}
	html_literal(f, "</ul>");
}

void chart_draw(FILE *f, const struct chart *c)
{
	int64_t top = scale_top(c->most);
	char number[REPORT_NUMBER_MAX];

	html_literal(f, "<figure class=\"chart\">");
	legend(f, c);
	html_literal(f, "<div class=\"plot\"><div class=\"yaxis\" aria-hidden=\"true\"><span>");
	html_text(f, report_count(top, number));
	html_literal(f, "</span><span>");
	html_text(f, report_count(top / 2, number));
	html_literal(f, "</span><span>0</span></div><svg class=\"bars\" role=\"img\" aria-labelledby=\"chart-title chart-desc\">");
	describe(f, c);
	for (int i = 0; i <= 2; i++)
		fprintf(f, "<line x1=\"0\" x2=\"100%%\" y1=\"%d%%\" y2=\"%d%%\" class=\"grid\"></line>", i * 50, i * 50);
	for (size_t bin = 0; bin < c->bins; bin++)
		draw_bin(f, c, bin, top);
	html_literal(f, "</svg>");
	draw_days(f, c);
	html_literal(f, "</div>");
	html_literal(f, "<figcaption>How often files were opened; each bar is ");
	if (c->weeks_a_bin == 1)
		html_literal(f, "a week from Monday on (UTC).");
	else
		html_printf(f, "%zu weeks, beginning with a Monday (UTC).", c->weeks_a_bin);
	html_literal(f, " Figures: <a href=\"#figures\">table A</a>.</figcaption></figure>\n");
}

/* ---- the same as a table ---- */

void chart_table(FILE *f, const struct chart *c)
{
	char number[REPORT_NUMBER_MAX], name[2 * REPORT_DAY_MAX + 8], day[REPORT_DAY_MAX];

	html_literal(f, "<table role=\"table\"><caption>Table A. How often files were opened, by purpose and time</caption><thead role=\"rowgroup\">"
			"<tr role=\"row\"><th role=\"columnheader\" scope=\"col\">");
	html_text(f, c->weeks_a_bin == 1 ? "Week from" : "Time");
	html_literal(f, "</th>");
	for (size_t i = 0; i < c->purposes; i++) {
		html_open(f, "th", "role", "columnheader", "scope", "col", "class", "num", NULL);
		html_text(f, c->ids[i]);
		html_close(f, "th");
	}
	html_literal(f, "</tr></thead><tbody role=\"rowgroup\">\n");
	for (size_t bin = 0; bin < c->bins; bin++) {
		bin_name(c, bin, name, sizeof(name));
		html_literal(f, "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\" class=\"day\">");
		html_text(f, c->weeks_a_bin == 1 ? report_day_of(c->first + (int64_t)bin * WEEK, day) : name);
		html_literal(f, "</th>");
		for (size_t i = 0; i < c->purposes; i++) {
			html_open(f, "td", "role", "cell", "class", "num", "data-label", c->ids[i], NULL);
			html_text(f, c->opens[bin][i] ? report_count(c->opens[bin][i], number) : "0");
			html_close(f, "td");
		}
		html_literal(f, "</tr>\n");
	}
	html_literal(f, "</tbody></table>\n");
}

/* ---- retention ---- */

/* When it goes: as told by a notice, or as its rule has it; 0: not known. */
static int64_t goes_at(const json_t *row)
{
	int64_t t = report_seconds(row, "wait_until");

	return t && strcmp(report_text(row, "state"), "waiting") == 0 ? t : report_seconds(row, "due");
}

static void retention_row(FILE *f, const json_t *row, int64_t now, int64_t end)
{
	int64_t at = goes_at(row);
	double x = at <= now ? 0 : 100.0 * (double)(at - now) / (double)(end - now);
	bool whole = strcmp(report_text(row, "of"), "client") == 0;
	char day[REPORT_DAY_MAX];

	html_literal(f, "<li><span class=\"what\">");
	html_text(f, whole ? "Everything" : *report_text(row, "title") ? report_text(row, "title") : report_text(row, "class"));
	html_literal(f, "</span><svg aria-hidden=\"true\"><rect x=\"0\" y=\"40%\" width=\"100%\" height=\"20%\" class=\"track\"></rect>");
	rect(f, 0, 25, x < 0.6 ? 0.6 : x, 50, strcmp(report_text(row, "state"), "waiting") == 0 ? "c1" : "c0");
	html_literal(f, "</rect></svg><span class=\"date\">");
	html_text(f, at ? report_day_of(at, day) : "");
	html_literal(f, "</span></li>\n");
}

bool chart_retention(FILE *f, const json_t *report)
{
	const json_t *rows = json_object_get(json_object_get(report, "retention"), "calendar"), *row;
	int64_t now = report_seconds(report, "made_at"), end = now + 86400;
	char day[REPORT_DAY_MAX];
	bool any = false;
	size_t i;

	json_array_foreach((json_t *)rows, i, row)
	{
		bool drawn = goes_at(row) && strcmp(report_text(row, "state"), "destroyed") != 0;

		any = any || drawn;
		if (drawn && goes_at(row) > end)
			end = goes_at(row);
	}
	if (!any)
		return false;
	html_literal(f, "<figure class=\"timeline\" role=\"group\" aria-label=\"From the day of this report to the day on which data are destroyed\"><ul>\n");
	json_array_foreach((json_t *)rows, i, row)
		if (goes_at(row) && strcmp(report_text(row, "state"), "destroyed") != 0)
			retention_row(f, row, now, end);
	html_literal(f, "</ul><figcaption>");
	html_printf(f, "Each bar runs from the day of this report (%s) to the day on which the data are destroyed.", report_day_of(now, day));
	html_literal(f, "</figcaption></figure>\n");
	return true;
}
