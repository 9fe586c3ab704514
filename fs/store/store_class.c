/* Record classes of directories, and what an editor's save must not change of a file's. */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>

#include "common/bytes.h"
#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define CLASS_BYTES 2
#define LABEL_BYTES (NONCE_BYTES + CLASS_BYTES + crypto_aead_xchacha20poly1305_ietf_ABYTES)
#define AD_BYTES (DIR_ID_BYTES + sizeof(CLASS_XATTR) - 1)

static void associated_data(const struct store_dir *d, uint8_t ad[AD_BYTES])
{
	place_dir_bytes(&d->id, ad);
	memcpy(ad + DIR_ID_BYTES, CLASS_XATTR, sizeof(CLASS_XATTR) - 1);
}

static int open_label(const struct store_dir *d, const uint8_t in[LABEL_BYTES], uint16_t *ret)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	uint8_t ad[AD_BYTES], plain[CLASS_BYTES];
	struct bytes_reader r;

	xattr_keys_of_dir(&d->keys->name, &keys);
	associated_data(d, ad);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(plain, NULL, NULL, in + NONCE_BYTES,
		    LABEL_BYTES - NONCE_BYTES, ad, sizeof(ad), in, keys.value.b) < 0)
		return -EBADMSG;
	bytes_reader_init(&r, plain, sizeof(plain));
	*ret = bytes_get_u16(&r);
	return *ret < CLASS_FIRST_POLICY ? -EBADMSG : 0;
}

int dir_load_class(struct store_dir *d, const struct store_dir *parent)
{
	uint8_t label[LABEL_BYTES + 1];
	uint16_t class;
	ssize_t n;

	atomic_store(&d->class, parent ? atomic_load(&parent->class) : d->store->class);
	atomic_store(&d->bad_label, parent && atomic_load(&parent->bad_label));
	n = backing_getxattr(d->fd, CLASS_XATTR, label, sizeof(label));
	if (n == -ENODATA)
		return 0;
	if (n < 0 && n != -ERANGE)
		return (int)n;
	if (n != LABEL_BYTES || open_label(d, label, &class) < 0) {
		atomic_store(&d->labelled, true);
		atomic_store(&d->bad_label, true);
		return 0; /* what is in it can be read */
	}
	atomic_store(&d->class, class);
	atomic_store(&d->labelled, true);
	atomic_store(&d->bad_label, false);
	return 0;
}

int dir_check_class(const struct store_dir *d)
{
	return atomic_load(&d->bad_label) ? store_damage("xattr") : 0;
}

uint16_t store_dir_class(const struct store_dir *d, bool *ret_labelled)
{
	*ret_labelled = atomic_load(&d->labelled);
	return (uint16_t)atomic_load(&d->class);
}

int store_dir_set_class(struct store_dir *d, uint16_t class)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	uint8_t label[LABEL_BYTES], ad[AD_BYTES], plain[CLASS_BYTES];
	struct bytes_writer w;
	int r;

	if (class == STORE_CLASS_NONE) {
		r = backing_removexattr(d->fd, CLASS_XATTR);
		if (r < 0 && r != -ENODATA)
			return r;
		atomic_store(&d->labelled, false);
		atomic_store(&d->bad_label, false);
		return 0;
	}
	if (class < CLASS_FIRST_POLICY)
		return -EINVAL;
	xattr_keys_of_dir(&d->keys->name, &keys);
	associated_data(d, ad);
	bytes_writer_init(&w, plain, sizeof(plain));
	bytes_put_u16(&w, class);
	randombytes_buf(label, NONCE_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(
		label + NONCE_BYTES, NULL, plain, sizeof(plain), ad, sizeof(ad), NULL, label, keys.value.b);
	r = backing_setxattr(d->fd, CLASS_XATTR, label, sizeof(label), 0);
	if (r < 0)
		return r;
	atomic_store(&d->class, class);
	atomic_store(&d->labelled, true);
	atomic_store(&d->bad_label, false);
	return 0;
}

/* ---- a document that is saved under its old name ---- */

#define TUNNELS 64
#define TUNNEL_SECONDS 15
#define BACKUP_SUFFIX '~'

struct tunnel_entry {
	uint8_t dir[DIR_ID_BYTES];
	char entry[NAME_MAX_BYTES + 1];
	uint16_t class, day;
	uint64_t line; /* of a document on hold; else 0 */
	struct subjects *subjects;
	time_t until; /* monotonic; 0: free */
};

struct tunnel {
	pthread_mutex_t lock;
	atomic_uint used; /* so that making files costs nothing while there is none */
	unsigned next;
	struct tunnel_entry e[TUNNELS];
};

int tunnel_new(struct tunnel **ret)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	*ret = t;
	return 0;
}

void tunnel_free(struct tunnel *t)
{
	if (!t)
		return;
	for (struct tunnel_entry *e = t->e; e < t->e + TUNNELS; e++)
		subjects_free(e->subjects);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static time_t seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec + 1;
}

static bool is_backup(const char *name, const char *new_name)
{
	size_t n = strlen(name);

	return strncmp(name, new_name, n) == 0 && new_name[n] == BACKUP_SUFFIX && new_name[n + 1] == 0;
}

void tunnel_note(struct store_dir *d, const char *name, const char *entry, struct store_dir *to,
	const char *new_name, const struct header_record *origin, struct subjects *taken)
{
	scoped(subjects_freep) struct subjects *subjects = taken;
	struct tunnel *t = d->store->tunnel;
	struct tunnel_entry *e;

	if (!dir_is(d, to) || !is_backup(name, new_name))
		return;
	pthread_mutex_lock(&t->lock);
	e = &t->e[t->next++ % TUNNELS];
	if (!e->until)
		atomic_fetch_add(&t->used, 1);
	subjects_free(e->subjects);
	*e = (struct tunnel_entry){.class = origin->origin_class,
		.day = origin->origin_day,
		.line = origin->line,
		.subjects = take_ptr(&subjects),
		.until = seconds() + TUNNEL_SECONDS};
	place_dir_bytes(&d->id, e->dir);
	strncpy(e->entry, entry, NAME_MAX_BYTES);
	pthread_mutex_unlock(&t->lock);
}

bool tunnel_take(struct store_dir *d, const char *entry, struct header_record *rec, struct subjects **ret)
{
	struct tunnel *t = d->store->tunnel;
	uint8_t dir[DIR_ID_BYTES];
	bool found = false;
	time_t now;

	if (atomic_load(&t->used) == 0)
		return false;
	now = seconds();
	place_dir_bytes(&d->id, dir);
	pthread_mutex_lock(&t->lock);
	for (struct tunnel_entry *e = t->e; e < t->e + TUNNELS; e++) {
		bool here = e->until && memcmp(e->dir, dir, sizeof(dir)) == 0 && strcmp(e->entry, entry) == 0;

		if (here && e->until >= now) {
			rec->origin_class = e->class;
			rec->origin_day = e->day;
			rec->line = e->line;
			subjects_free(*ret);
			*ret = take_ptr(&e->subjects);
			found = true;
		}
		if (e->until && (here || e->until < now)) {
			e->until = 0;
			subjects_free(take_ptr(&e->subjects));
			atomic_fetch_sub(&t->used, 1);
		}
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

/* ---- documents on hold ---- */

int store_set_held(struct store *s, const uint64_t *lines, size_t n)
{
	uint64_t *copy = calloc(n + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		copy[i] = lines[i];
	free(s->held);
	s->held = copy;
	s->held_n = n;
	return 0;
}

bool store_is_held(const struct store *s, uint64_t line)
{
	for (size_t i = 0; i < s->held_n; i++)
		if (s->held[i] == line)
			return true;
	return false;
}
