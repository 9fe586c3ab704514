/* The first 4096 bytes of a file that ever had content: who it is, its content key wrapped under one leaf of
 * the key tree, and two alternating records for what changes.  Pure: no I/O.  doc/FORMAT.md has the table.
 *
 *	offset  size  field                       rule on read                             authenticated by
 *	0       8     magic "COFFER\r\n"          exact                                    wrap (AAD)
 *	8       1     format = 1                  exact                                    wrap (AAD)
 *	9       1     suite 1, 2                  known                                    wrap (AAD)
 *	10      1     layout = 1                  exact                                    wrap (AAD)
 *	11      1     kind = 1 (file)             exact                                    wrap (AAD)
 *	12      4     zero                        zero                                     wrap (AAD)
 *	16      16    file id                                                              wrap (AAD)
 *	32      8     leaf index                  its leaf must be held (else ENOKEY)      wrap (AAD)
 *	40      24    nonce                                                                wrap
 *	64      32    commitment                  compared before decrypting               wrap
 *	96      32    content key, encrypted                                               wrap
 *	128     16    tag                                                                  wrap
 *	144     368   zero                        zero
 *	512     512   record of even generation   zero, or as below; the valid one of the
 *	1024    512   record of odd generation    higher generation counts; none: damage
 *	1536    2560  zero                        zero
 *
 * Record: generation 8 (>= 1, parity fits the place), size floor 8, flags 4 (known ones), origin day 2, origin
 * class 2, line 8, MAC 32 (keyed BLAKE2b-256 over file id and the 32 bytes before it), zero 448. */
#ifndef COFFER_HEADER_H
#define COFFER_HEADER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/ids.h"
#include "common/secret.h"

#define HEADER_BYTES 4096
#define HEADER_RECORD_BYTES 512
#define HEADER_PEEK_BYTES 40	/* what header_peek looks at */
#define HEADER_USED_BYTES 1536	/* fixed part and both records */

enum { HEADER_FORMAT = 1, HEADER_LAYOUT = 1, HEADER_KIND_FILE = 1 };

enum header_flags {
	HEADER_HOLES = 1 << 0,	/* a sector of zeros is a hole, not damage */
	HEADER_LINKED = 1 << 1, /* had a second name once: not bound to one place */
};

struct header_record {
	uint64_t generation;
	uint64_t floor;		/* the file is at least so long */
	uint32_t flags;
	uint16_t origin_day;	/* retention counts from here: the file it replaced, or its own day */
	uint16_t origin_class;
	uint64_t line;		/* of documents: the first 8 bytes of the id of the one it replaced by saving; 0: its own */
};


struct header {
	uint8_t suite;
	struct file_id id;
	struct leaf_index leaf;
	struct header_record rec;
};

/* The document that a file is a saved state of: a hold follows it. */
uint64_t header_line(const struct header *h);

/* The whole 4096 bytes, with h->rec as its only record. */
void header_seal(const struct header *h, const struct key32 *wrap, const struct key32 *content,
	uint8_t out[HEADER_BYTES]);
/* The fixed fields, NOT authenticated: to learn which leaf opens it.  ret->rec is zero.  -EBADMSG. */
int header_peek(const uint8_t in[HEADER_PEEK_BYTES], struct header *ret);
/* -EBADMSG: not what was sealed under `wrap`, or no valid record. */
int header_open(const uint8_t in[HEADER_BYTES], const struct key32 *wrap, struct header *ret,
	struct key32 *ret_content);

/* h->rec as bytes, and where in the file they belong. */
void header_seal_record(const struct header *h, const struct key32 *content, uint8_t out[HEADER_RECORD_BYTES]);
off_t header_record_offset(const struct header_record *rec);

#endif
