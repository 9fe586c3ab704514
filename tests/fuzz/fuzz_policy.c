/* A policy file, damaged: taken or refused with a reason, never a crash; what is taken can be used. */
#include "tests/fuzz/fuzz.h"

#include "policy/agreement.h"
#include "policy/builtin.h"
#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct fuzz_input in = {data, n};
	struct policy_error err = {0};
	size_t text_n, size;
	const char *builtin = policy_builtin_text(&text_n);
	char *text = malloc(text_n + n + 1);
	struct agreement *a;
	struct policy *p;

	fuzz_check(text);
	if (fuzz_byte(&in) % 2) { /* pieces of the input over the built-in one */
		memcpy(text, builtin, size = text_n);
		while (in.left > 0) {
			size_t at = (fuzz_byte(&in) | (size_t)fuzz_byte(&in) << 8) % text_n;

			for (size_t len = fuzz_byte(&in) % 16; len > 0 && in.left > 0 && at < text_n; len--)
				text[at++] = (char)fuzz_byte(&in);
		}
	} else {
		memcpy(text, in.p, size = in.left);
	}
	if (policy_load_text(text, size, &p, &err) == 0)
		policy_free(p);
	if (agreement_load_text(text, size, NULL, &a, &err) == 0)
		agreement_free(a);
	free(text);
	return 0;
}
