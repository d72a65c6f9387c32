// Text of OpenSSL's error queue, and the output of memory BIOs.
#include "cgo_compat.h"
#include <stdio.h>
#include <string.h>
#include <openssl/err.h>

int compat_fail(compat_err *err)
{
	size_t n = 0;
	unsigned long code;

	err->text[0] = 0;
	while ((code = ERR_get_error()) != 0) {
		const char *lib = ERR_lib_error_string(code), *reason = ERR_reason_error_string(code);
		char number[32];
		if (reason == NULL) {
			snprintf(number, sizeof number, "error %08lX", code);
			reason = number;
		}
		int k = snprintf(err->text + n, sizeof err->text - n, "%s%s%s%s", n > 0 ? "; " : "", lib ? lib : "", lib ? ": " : "", reason);
		n += k > 0 ? (size_t)k : 0;
		if (n >= sizeof err->text)
			n = sizeof err->text - 1;
	}
	return 0;
}

int compat_take(BIO *bio, compat_buf *out)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);

	out->data = NULL;
	out->len = 0;
	if (len > 0 && (out->data = OPENSSL_memdup(data, (size_t)len)) != NULL)
		out->len = (size_t)len;
	if (len > 0)
		OPENSSL_cleanse(data, (size_t)len);
	BIO_free(bio);
	return out->data != NULL;
}

void compat_buf_free(compat_buf *buf)
{
	OPENSSL_clear_free(buf->data, buf->len);
	buf->data = NULL;
	buf->len = 0;
}
