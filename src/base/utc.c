#include "base/utc.h"

static void put_padded(struct wr *w, uint64_t v, unsigned width)
{
	for (uint64_t limit = 10; width > 1; limit *= 10, width--)
		if (v < limit)
			wr_u8(w, '0');
	wr_dec(w, v);
}

/* The date of a number of days since 1970-01-01, by the proleptic Gregorian calendar. Years are
 * counted from 1 March, so that the leap day is the last of its year, and in eras of 400 years,
 * which all have 146097 days. */
static void put_date(struct wr *w, uint64_t days)
{
	uint64_t from_0000_03_01 = days + 719468;
	uint64_t era = from_0000_03_01 / 146097;
	uint64_t day_of_era = from_0000_03_01 % 146097;
	uint64_t year_of_era =
	    (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	uint64_t day_of_year =
	    day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	uint64_t month_from_march = (5 * day_of_year + 2) / 153;
	uint64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;

	put_padded(w, 400 * era + year_of_era + (month <= 2), 4);
	wr_u8(w, '-');
	put_padded(w, month, 2);
	wr_u8(w, '-');
	put_padded(w, day_of_year - (153 * month_from_march + 2) / 5 + 1, 2);
}

void utc_write(struct wr *w, uint64_t secs, uint32_t ns)
{
	put_date(w, secs / 86400);
	wr_u8(w, 'T');
	put_padded(w, secs / 3600 % 24, 2);
	wr_u8(w, ':');
	put_padded(w, secs / 60 % 60, 2);
	wr_u8(w, ':');
	put_padded(w, secs % 60, 2);
	wr_u8(w, '.');
	put_padded(w, ns / 1000000, 3);
	wr_u8(w, 'Z');
}
