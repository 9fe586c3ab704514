/* One sector: 4096 bytes on disk for up to 4032 of plaintext; stands alone.  Pure: no I/O.
 *
 *	offset  size  field                                            rule on read
 *	0       16    salt: subkey = BLAKE2b(content key, salt)        authenticated: other salt, other key
 *	16      8     counter: the nonce under that subkey             authenticated: other nonce
 *	24      2     length of the plaintext                          1..4032; authenticated (AAD)
 *	26      6     zero                                             zero
 *	32      16    tag
 *	48      16    zero (room for a 32-byte tag)                    zero
 *	64      4032  `length` bytes of ciphertext, then zeros         authenticated; zeros
 *
 * AAD: format 1, suite 1, length 2, zero 4, index of the sector 8, file id 16.
 * A sector that is not the file's last and shorter than 4032 reads as if zeros followed.  4096 zeros are a
 * hole: the caller knows whether the file may have one. */
#ifndef COFFER_SECTOR_H
#define COFFER_SECTOR_H

#include "fs/store/cipher.h"

#define SECTOR_BYTES 4096
#define SECTOR_DATA 4032

int sector_seal(const struct cipher_file *f, const struct cipher_nonce *nonce, uint64_t index,
	const uint8_t *plain, size_t n, uint8_t out[SECTOR_BYTES]);
/* Writes all of plain[0..SECTOR_DATA): behind the length come zeros.  -EBADMSG: then plain holds zeros. */
int sector_open(const struct cipher_file *f, uint64_t index, const uint8_t in[SECTOR_BYTES],
	uint8_t plain[SECTOR_DATA], size_t *ret_n);
bool sector_is_hole(const uint8_t in[SECTOR_BYTES]);

#endif
