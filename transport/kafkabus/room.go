package kafkabus

// What is held keeps the memory that it shares with others. So what is shared is
// small: some items of small messages, and a room for some messages' bytes.
const (
	slab      = 8       // items that are made at once
	smallItem = 2 << 10 // bytes of a message; larger ones share nothing
	roomBytes = 16 << 10
)

// rooms gives memory to small messages out of one piece.
type rooms struct{ left []byte }

// take returns an empty slice with room for n bytes.
func (r *rooms) take(n int) []byte {
	if n > smallItem {
		return make([]byte, 0, n)
	}
	if len(r.left) < n {
		r.left = make([]byte, roomBytes)
	}
	room := r.left[:0:n]
	r.left = r.left[n:]
	return room
}
