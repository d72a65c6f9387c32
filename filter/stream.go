package filter

// Stream is the Codec for a stream of bytes. Each incoming record is a []byte
// with all data that has arrived, and belongs to the caller. The boundaries between
// records have no meaning. Outgoing records are []byte and string.
//
// Corresponds to POE::Filter::Stream.
type Stream struct{}

// Decode takes all of data.
func (Stream) Decode(data []byte, _ int) (any, int, error) {
	if len(data) == 0 {
		return nil, 0, nil
	}
	return append([]byte(nil), data...), len(data), nil
}

// Encode appends a []byte or string.
func (Stream) Encode(dst []byte, rec any) ([]byte, error) {
	switch rec := rec.(type) {
	case []byte:
		return append(dst, rec...), nil
	case string:
		return append(dst, rec...), nil
	}
	return dst, recordType("Stream", rec, "[]byte and string")
}

// Partial returns 0.
func (Stream) Partial() int { return 0 }
