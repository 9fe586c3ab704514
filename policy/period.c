#include <ctype.h>
#include <errno.h>

#include "policy/policy.h"

#define PERIOD_YEARS_MAX 200 /* longer than any law asks for; keeps dates within four digits */

static int *unit_of(struct period *p, char unit, int *ret_max)
{
	switch (unit) {
	case 'y':
		*ret_max = PERIOD_YEARS_MAX;
		return &p->years;
	case 'm':
		*ret_max = PERIOD_YEARS_MAX * 12;
		return &p->months;
	case 'd':
		*ret_max = PERIOD_YEARS_MAX * 366;
		return &p->days;
	default:
		return NULL;
	}
}

/* Each unit once; a period of nothing is a mistake, not a wish. */
int policy_period_parse(const char *text, struct period *ret)
{
	struct period p = {0};
	bool first = true;

	while (*text || first) {
		int n = 0, max, *unit;

		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		for (; isdigit((unsigned char)*text); text++) {
			if (n > PERIOD_YEARS_MAX * 366)
				return -EINVAL;
			n = n * 10 + (*text - '0');
		}
		unit = unit_of(&p, *text, &max);
		if (!unit || *unit != 0 || n == 0 || n > max)
			return -EINVAL;
		*unit = n;
		text++;
		first = false;
		if (*text == ' ')
			text++;
		else if (*text)
			return -EINVAL;
		else
			break;
		if (*text == '\0')
			return -EINVAL; /* a space at the end */
	}
	*ret = p;
	return 0;
}
