package sslfilter_test

import (
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
)

// dhParams is the ASN.1 of PKCS #3 parameters.
type dhParams struct{ P, G *big.Int }

// brokenDH is dh2048 with a number that is no prime.
func brokenDH(t testing.TB) []byte {
	t.Helper()
	var params dhParams
	_, err := asn1.Unmarshal(pemDER(t, pkiBytes(t, "dh2048.pem")), &params)
	require.NoError(t, err)
	params.P.Sub(params.P, big.NewInt(2))
	der, err := asn1.Marshal(params)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "DH PARAMETERS", Bytes: der})
}
