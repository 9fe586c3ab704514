/* Small secrets in a TPM 2.0: NV indices without ORDERLY, so what is written is in the chip and survives a loss of power.
 * By tpm2-tss; a build without it has the same functions, which all say -EOPNOTSUPP.  Each call opens the TPM anew. */
#ifndef COFFER_KEYD_TPM2_H
#define COFFER_KEYD_TPM2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TPM2_DEFAULT_TCTI "device:/dev/tpmrm0"
#define TPM2_TCTI_MAX 160
#define TPM2_NV_FIRST 0x01000000u
#define TPM2_NV_LAST 0x01fffffcu /* a slot takes three in a row */
#define TPM2_BYTES_MAX 512	 /* one command: a write is whole or not there */

struct tpm2_place {
	uint32_t index;
	char tcti[TPM2_TCTI_MAX];
};

/* "INDEX[@TCTI]", the index in any base of strtoul; the way to the TPM is device:/dev/tpm... (a TPM of this machine), tabrmd,
 * swtpm or mssim (with what follows their colon), and no other: it is loaded as a library.  -EINVAL. */
int tpm2_place_parse(const char *text, struct tpm2_place *ret);

/* All: -ENXIO: no TPM there; -ENOENT: no such index; -EACCES: the TPM wants an authorisation that we do not have; -EIO.
 * The index is place->index + `plus`. */
int tpm2_read(const struct tpm2_place *place, unsigned plus, void *buf, size_t n); /* -ENODATA: never written; -EBADMSG: of another size */
/* Into an index that exists; read back. */
int tpm2_write(const struct tpm2_place *place, unsigned plus, const void *buf, size_t n);
int tpm2_define(const struct tpm2_place *place, unsigned plus, size_t n); /* -EEXIST; -ENOSPC: the chip is full */
int tpm2_undefine(const struct tpm2_place *place, unsigned plus);
bool tpm2_exists(const struct tpm2_place *place, unsigned plus);

#endif
