#include "keyd/tpm2.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_tctildr.h>

#include "common/scope.h"

struct tpm {
	TSS2_TCTI_CONTEXT *tcti;
	ESYS_CONTEXT *esys;
};

static void tpm_close(struct tpm *t)
{
	if (t->esys)
		Esys_Finalize(&t->esys);
	if (t->tcti)
		Tss2_TctiLdr_Finalize(&t->tcti);
}

/* The number of the error, whoever of the layers said it, and of whichever parameter. */
static TSS2_RC plain(TSS2_RC rc)
{
	rc &= ~TSS2_RC_LAYER_MASK;
	return rc & TPM2_RC_FMT1 ? rc & (TPM2_RC_FMT1 | 0x3f) : rc;
}

static int to_errno(TSS2_RC rc)
{
	if (rc == TSS2_RC_SUCCESS)
		return 0;
	switch (plain(rc)) {
	case TPM2_RC_HANDLE:
		return -ENOENT;
	case TPM2_RC_NV_DEFINED:
		return -EEXIST;
	case TPM2_RC_NV_SPACE:
		return -ENOSPC;
	case TPM2_RC_NV_UNINITIALIZED:
		return -ENODATA;
	case TPM2_RC_NV_AUTHORIZATION:
	case TPM2_RC_BAD_AUTH:
	case TPM2_RC_AUTH_FAIL:
	case TPM2_RC_LOCKOUT:
		return -EACCES;
	}
	return -EIO;
}

static int tpm_open(const struct tpm2_place *place, struct tpm *t)
{
	TSS2_RC rc;

	(void)setenv("TSS2_LOG", "all+none", 0); /* the library writes to stderr: we say what is wrong */
	if (Tss2_TctiLdr_Initialize(place->tcti, &t->tcti) != TSS2_RC_SUCCESS ||
		Esys_Initialize(&t->esys, t->tcti, NULL) != TSS2_RC_SUCCESS)
		return -ENXIO;
	rc = Esys_Startup(t->esys, TPM2_SU_CLEAR);
	return rc == TSS2_RC_SUCCESS || plain(rc) == TPM2_RC_INITIALIZE ? 0 : -ENXIO;
}

static int find_index(struct tpm *t, TPM2_HANDLE index, ESYS_TR *ret)
{
	return to_errno(Esys_TR_FromTPMPublic(t->esys, index, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ret));
}

static int open_index(const struct tpm2_place *place, unsigned plus, struct tpm *t, ESYS_TR *ret)
{
	int r = tpm_open(place, t);

	return r < 0 ? r : find_index(t, place->index + plus, ret);
}

static void tpm_free(void *pp)
{
	Esys_Free(*(void **)pp);
}

static int read_index(struct tpm *t, ESYS_TR nv, void *buf, size_t n)
{
	scoped(tpm_free) TPM2B_NV_PUBLIC *public = NULL;
	scoped(tpm_free) TPM2B_MAX_NV_BUFFER *data = NULL;
	int r;

	r = to_errno(Esys_NV_ReadPublic(t->esys, nv, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &public, NULL));
	if (r < 0)
		return r;
	if (public->nvPublic.dataSize != n)
		return -EBADMSG;
	r = to_errno(Esys_NV_Read(t->esys, nv, nv, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, (UINT16)n, 0, &data));
	if (r < 0)
		return r;
	if (data->size == n)
		memcpy(buf, data->buffer, n);
	r = data->size == n ? 0 : -EIO;
	sodium_memzero(data, sizeof(*data));
	return r;
}

/* The library keeps its last command and answer in buffers that it frees unwiped.  A long random "write", which the TPM
 * refuses for its length, and a long answer take their places. */
static void scrub(struct tpm *t, ESYS_TR nv)
{
	TPM2B_MAX_NV_BUFFER noise = {.size = TPM2_BYTES_MAX};
	scoped(tpm_free) TPMS_CAPABILITY_DATA *data = NULL;
	TPMI_YES_NO more;

	(void)Esys_NV_Write(t->esys, nv, nv, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &noise, UINT16_MAX);
	(void)Esys_GetCapability(t->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_TPM_PROPERTIES, TPM2_PT_FIXED, 64,
		&more, &data);
}

int tpm2_read(const struct tpm2_place *place, unsigned plus, void *buf, size_t n)
{
	scoped(tpm_close) struct tpm t = {0};
	ESYS_TR nv;
	int r = open_index(place, plus, &t, &nv);

	if (r < 0)
		return r;
	r = read_index(&t, nv, buf, n);
	scrub(&t, nv);
	return r;
}

int tpm2_write(const struct tpm2_place *place, unsigned plus, const void *buf, size_t n)
{
	scoped(tpm_close) struct tpm t = {0};
	TPM2B_MAX_NV_BUFFER data = {.size = (UINT16)n};
	uint8_t back[TPM2_BYTES_MAX];
	ESYS_TR nv;
	int r;

	if (n > TPM2_BYTES_MAX)
		return -EMSGSIZE;
	r = open_index(place, plus, &t, &nv);
	if (r < 0)
		return r;
	memcpy(data.buffer, buf, n);
	r = to_errno(Esys_NV_Write(t.esys, nv, nv, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &data, 0));
	sodium_memzero(&data, sizeof(data));
	if (r == 0)
		r = read_index(&t, nv, back, n);
	if (r == 0 && sodium_memcmp(back, buf, n) != 0)
		r = -EIO;
	sodium_memzero(back, sizeof(back));
	scrub(&t, nv);
	return r;
}

int tpm2_define(const struct tpm2_place *place, unsigned plus, size_t n)
{
	scoped(tpm_close) struct tpm t = {0};
	const TPM2B_AUTH empty = {0};
	const TPM2B_NV_PUBLIC public = {.nvPublic = {.nvIndex = place->index + plus,
						.nameAlg = TPM2_ALG_SHA256,
						.attributes = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_OWNERREAD |
							      TPMA_NV_OWNERWRITE | TPMA_NV_NO_DA,
						.dataSize = (UINT16)n}};
	ESYS_TR nv;
	int r = tpm_open(place, &t);

	if (r < 0)
		return r;
	return to_errno(Esys_NV_DefineSpace(
		t.esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &empty, &public, &nv));
}

int tpm2_undefine(const struct tpm2_place *place, unsigned plus)
{
	scoped(tpm_close) struct tpm t = {0};
	ESYS_TR nv;
	int r = open_index(place, plus, &t, &nv);

	if (r < 0)
		return r;
	return to_errno(
		Esys_NV_UndefineSpace(t.esys, ESYS_TR_RH_OWNER, nv, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE));
}

bool tpm2_exists(const struct tpm2_place *place, unsigned plus)
{
	scoped(tpm_close) struct tpm t = {0};
	ESYS_TR nv;

	return open_index(place, plus, &t, &nv) == 0;
}
