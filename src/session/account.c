#include "session/account.h"

#include "base/parse.h"

#define ID_MAX 0xfffffffeu /* (uid_t)-1 means "leave it" to the kernel */

/* What is of use of a line of either file. Fields that are missing are empty. */
struct entry {
	struct span name, id;
	struct span fourth; /* the gid of passwd; the members of group, by commas */
	struct span sixth;  /* the home of passwd */
};

static struct entry entry_of(struct span line)
{
	struct entry e;

	e.name = span_split(&line, ':');
	span_split(&line, ':'); /* password */
	e.id = span_split(&line, ':');
	e.fourth = span_split(&line, ':');
	span_split(&line, ':'); /* the user's full name */
	e.sixth = span_split(&line, ':');
	return e;
}

static bool id_of(struct span text, uint32_t *id)
{
	uint64_t n;

	if (parse_u64(text, 0, ID_MAX, &n) != E_OK)
		return false;
	*id = (uint32_t)n;
	return true;
}

static bool is_number(struct span text)
{
	for (size_t i = 0; i < text.n; i++)
		if (!ascii_digit(text.p[i]))
			return false;
	return text.n > 0;
}

/* The first line that is about `who`. */
static bool find_entry(struct span text, struct span who, struct entry *out)
{
	uint32_t wanted = 0;
	bool by_number = is_number(who) && id_of(who, &wanted);

	while (text.n) {
		struct entry e = entry_of(span_split(&text, '\n'));
		uint32_t id;

		if (!id_of(e.id, &id) || e.name.n == 0)
			continue;
		if (by_number ? id != wanted : !span_eq(e.name, who))
			continue;
		*out = e;
		return true;
	}
	return false;
}

/* What a number stands for that no line has. */
static enum err number_of(struct span who, uint32_t *id)
{
	if (!is_number(who))
		return E_UNKNOWN;
	return id_of(who, id) ? E_OK : E_RANGE;
}

static enum err find_user(struct span passwd, struct span who, struct account *a)
{
	struct entry e;
	uint32_t gid;

	a->name = who;
	a->home = span_str("/");
	if (!find_entry(passwd, who, &e))
		return number_of(who, &a->uid);
	a->name = e.name;
	if (e.sixth.n)
		a->home = e.sixth;
	id_of(e.id, &a->uid);
	if (id_of(e.fourth, &gid))
		a->gid = gid;
	return E_OK;
}

static enum err find_group(struct span group, struct span who, gid_t *gid)
{
	struct entry e;

	if (!find_entry(group, who, &e))
		return number_of(who, gid);
	id_of(e.id, gid);
	return E_OK;
}

static bool is_member(struct span members, struct span name)
{
	while (members.n)
		if (span_eq(span_split(&members, ','), name))
			return true;
	return false;
}

static void find_other_groups(struct span group, struct account *a)
{
	while (group.n && a->n_groups < ACCOUNT_GROUPS) {
		struct entry e = entry_of(span_split(&group, '\n'));
		uint32_t gid;

		if (id_of(e.id, &gid) && gid != a->gid && is_member(e.fourth, a->name))
			a->groups[a->n_groups++] = gid;
	}
}

enum err account_find(struct span passwd, struct span group, struct span who, struct account *out)
{
	struct account a = {0};
	size_t colon = span_find(who, ':');
	enum err err = find_user(passwd, span_first(who, colon), &a);

	if (err == E_OK && colon < who.n)
		err = find_group(group, span_from(who, colon + 1), &a.gid);
	else if (err == E_OK)
		find_other_groups(group, &a);
	if (err == E_OK)
		*out = a;
	return err;
}
