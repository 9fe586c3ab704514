/* One entry, integers little-endian:
 *
 *	0    1    number                          < 16, none twice
 *	1    1    kind: 1 file, 2 tpm2
 *	2    1    role: 0 member, 1 leaving, 2 lost
 *	3    5    zero
 *	8    32   public key of the slot
 *	40   8    generation of R in it when it left  0 for a member
 *	48   8    when it left, seconds since 1970    0 for a member
 *	56   32   name, zeros behind it
 *	88   168  where, zeros behind it
 */
#include "keyd/slot_list.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static_assert(8 + SLOT_ID_BYTES + 16 + SLOT_NAME_BYTES + SLOT_WHERE_BYTES == SLOT_REF_BYTES, "the table above");

bool slot_name_is_valid(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n < SLOT_NAME_BYTES && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n && name[0] != '-';
}

const char *slot_kind_name(enum slot_kind kind)
{
	return kind == SLOT_TPM2 ? "tpm2" : "file";
}

int slot_kind_parse(const char *text, enum slot_kind *ret)
{
	for (enum slot_kind k = SLOT_FILE; k <= SLOT_TPM2; k++) {
		if (strcmp(text, slot_kind_name(k)) == 0) {
			*ret = k;
			return 0;
		}
	}
	return -EINVAL;
}

void slot_ref_put(struct bytes_writer *w, const struct slot_ref *ref)
{
	bytes_put_u8(w, ref->number);
	bytes_put_u8(w, (uint8_t)ref->kind);
	bytes_put_u8(w, (uint8_t)ref->role);
	bytes_put_zeros(w, 5);
	bytes_put(w, ref->id, SLOT_ID_BYTES);
	bytes_put_u64(w, ref->left_generation);
	bytes_put_u64(w, (uint64_t)ref->left_at);
	bytes_put(w, ref->name, SLOT_NAME_BYTES);
	bytes_put(w, ref->where, SLOT_WHERE_BYTES);
}

static bool text_is_sound(const char *text, size_t size)
{
	size_t n = strnlen(text, size);

	return n < size && bytes_are_zero(text + n, size - n);
}

int slot_ref_get(struct bytes_reader *rd, struct slot_ref *ret)
{
	struct slot_ref ref = {0};

	ref.number = bytes_get_u8(rd);
	ref.kind = bytes_get_u8(rd);
	ref.role = bytes_get_u8(rd);
	(void)bytes_get_zeros(rd, 5);
	bytes_get(rd, ref.id, SLOT_ID_BYTES);
	ref.left_generation = bytes_get_u64(rd);
	ref.left_at = (int64_t)bytes_get_u64(rd);
	bytes_get(rd, ref.name, SLOT_NAME_BYTES);
	bytes_get(rd, ref.where, SLOT_WHERE_BYTES);
	if (rd->failed || ref.number >= SLOT_LIST_MAX || ref.kind < SLOT_FILE || ref.kind > SLOT_TPM2 ||
		ref.role > SLOT_LOST || !text_is_sound(ref.name, sizeof(ref.name)) ||
		!text_is_sound(ref.where, sizeof(ref.where)) || !slot_name_is_valid(ref.name))
		return -EBADMSG;
	*ret = ref;
	return 0;
}

const struct slot_ref *slot_list_find(const struct slot_list *l, const char *name)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->refs[i].role != SLOT_LOST && strcmp(l->refs[i].name, name) == 0)
			return &l->refs[i];
	return NULL;
}
