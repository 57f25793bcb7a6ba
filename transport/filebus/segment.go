package filebus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A segment is a file of records behind a header of 4096 bytes:
//
//	   0  magic
//	   8  u32  CRC32C of bytes 12 to the end of the counts
//	  12  u32  partitions
//	  16  u64  base: sequence number of the first record
//	  24  u64  sequence number behind the last record of the segment before;
//	           less than base where a loss of power took records
//	  32  u64… records appended before base, by partition
//	4080  u8   1 while records are being removed
//	4088  u64  how many records of this segment were removed
const (
	segHeader     = 4096
	segMagic      = "DVTLSEG1"
	segRemoving   = 4080
	segRemoved    = 4088
	maxPartitions = 256
)

type segmentInfo struct {
	base, prev uint64
	counts     []uint64
	removed    uint64
	removing   bool
}

func segmentPath(dir string, base uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d.seg", base))
}

// segments returns the bases of the segments in dir, in order.
func segments(dir string) ([]uint64, error) {
	names, err := listDir(dir)
	if err != nil {
		return nil, err
	}
	var bases []uint64
	for _, n := range names {
		if digits, ok := strings.CutSuffix(n, ".seg"); ok {
			if base, err := strconv.ParseUint(digits, 10, 64); err == nil {
				bases = append(bases, base)
			}
		}
	}
	slices.Sort(bases)
	return bases, nil
}

// createSegment makes an empty segment whose name survives a loss of power. A
// file of that name was never marked as valid and is overwritten.
func createSegment(dir string, info segmentInfo) (*os.File, error) {
	f, err := openFile(segmentPath(dir, info.base), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	step("segment made")
	b := make([]byte, segHeader)
	copy(b, segMagic)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(info.counts)))
	binary.LittleEndian.PutUint64(b[16:], info.base)
	binary.LittleEndian.PutUint64(b[24:], info.prev)
	for i, c := range info.counts {
		binary.LittleEndian.PutUint64(b[32+8*i:], c)
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b[12:32+8*len(info.counts)], castagnoli))
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = syncData(f)
	}
	step("segment headed")
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil { // a full disk: do not leave half a header
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// marked is those of the segments that were ever appended to, as m has it. One
// behind them is what a process left that died before it marked it.
func marked(bases []uint64, m *mark) []uint64 {
	for len(bases) > 0 && bases[len(bases)-1] > m.base {
		bases = bases[:len(bases)-1]
	}
	return bases
}

var errSegment = errors.New("the segment's header is damaged: restore the file from a backup, or move it away to go on without its messages")

// openSegment opens a segment for reading and writing and reads its header.
func openSegment(dir string, base uint64, parts int) (*os.File, segmentInfo, error) {
	f, err := os.OpenFile(segmentPath(dir, base), os.O_RDWR, 0)
	if err != nil {
		return nil, segmentInfo{}, err
	}
	info, err := readSegmentInfo(f, parts)
	if err == nil && info.base != base {
		err = errSegment
	}
	if err != nil {
		return nil, segmentInfo{}, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	return f, info, nil
}

func readSegmentInfo(f *os.File, parts int) (segmentInfo, error) {
	b := make([]byte, segHeader)
	if _, err := f.ReadAt(b, 0); err != nil {
		if err == io.EOF {
			return segmentInfo{}, errSegment
		}
		return segmentInfo{}, err
	}
	has := binary.LittleEndian.Uint32(b[12:])
	if string(b[:8]) != segMagic || has > maxPartitions || binary.LittleEndian.Uint32(b[8:]) != crc32.Checksum(b[12:32+8*has], castagnoli) {
		return segmentInfo{}, errSegment
	}
	if int(has) != parts {
		return segmentInfo{}, fmt.Errorf("the segment has %d partitions, and the channel's channel.json says %d: restore channel.json", has, parts)
	}
	info := segmentInfo{
		base:     binary.LittleEndian.Uint64(b[16:]),
		prev:     binary.LittleEndian.Uint64(b[24:]),
		counts:   make([]uint64, parts),
		removing: b[segRemoving] != 0,
		removed:  binary.LittleEndian.Uint64(b[segRemoved:]),
	}
	for i := range info.counts {
		info.counts[i] = binary.LittleEndian.Uint64(b[32+8*i:])
	}
	return info, nil
}

// readInfo reads the header of a segment that is not open; ok is false if it is
// gone meanwhile.
func readInfo(dir string, base uint64, parts int) (info segmentInfo, ok bool, err error) {
	f, info, err := openSegment(dir, base, parts)
	if errors.Is(err, fs.ErrNotExist) {
		return info, false, nil
	}
	if err != nil {
		return info, false, err
	}
	return info, true, f.Close()
}

func total(counts []uint64) uint64 {
	var n uint64
	for _, c := range counts {
		n += c
	}
	return n
}
