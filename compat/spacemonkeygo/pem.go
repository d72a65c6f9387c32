package openssl

import "bytes"

// SplitPEM splits the contents of a PEM file into its blocks. Each result is the
// text of one block with its BEGIN and END lines. Text outside the blocks is left
// out.
func SplitPEM(data []byte) [][]byte {
	var blocks [][]byte
	var block []byte
	for line := range bytes.Lines(data) {
		begins := bytes.HasPrefix(line, []byte("-----BEGIN"))
		if begins {
			block = nil
		}
		if begins || block != nil {
			block = append(block, line...)
		}
		if block != nil && bytes.HasPrefix(line, []byte("-----END")) {
			blocks, block = append(blocks, block), nil
		}
	}
	return blocks
}
