package kafkabus

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What real brokers tell, cluster_test.go sees. Here is what is made of it.
func TestExamine_tells_who_is_away_who_is_behind_and_what_has_no_leader(t *testing.T) {
	answer := func(leader int32, current []int32, runs ...int32) *kmsg.MetadataResponse {
		resp := kmsg.NewPtrMetadataResponse()
		for _, id := range runs {
			resp.Brokers = append(resp.Brokers, kmsg.MetadataResponseBroker{NodeID: id})
		}
		resp.Topics = []kmsg.MetadataResponseTopic{{Topic: kmsg.StringPtr("orders"), Partitions: []kmsg.MetadataResponseTopicPartition{
			{Partition: 2, Leader: leader, Replicas: []int32{1, 2, 3}, ISR: current}}}}
		for _, id := range current {
			if !slices.Contains(runs, id) {
				resp.Topics[0].Partitions[0].OfflineReplicas = append(resp.Topics[0].Partitions[0].OfflineReplicas, id)
			}
		}
		return resp
	}
	if all := findings(answer(-1, []int32{1}, 2, 3)); !strings.Contains(all[1].Remedy, "start it with its data") || strings.Contains(all[1].Remedy, "gone for good") {
		t.Errorf("of the only broker that has everything it says %+v", all[1])
	}
	hidden := answer(1, []int32{1, 2, 3}, 1, 2, 3)
	hidden.Topics[0].ErrorCode, hidden.Topics[0].Partitions = kerr.TopicAuthorizationFailed.Code, nil
	if all := findings(hidden); len(all) != 1 || !all[0].Stops || !strings.Contains(all[0].Remedy, "grant Describe") {
		t.Errorf("of a topic that may not be looked at it says %+v", all)
	}
	for name, c := range map[string]struct {
		resp *kmsg.MetadataResponse
		want []string // subject and problem of each
	}{
		"well":          {answer(1, []int32{3, 1, 2}, 1, 2, 3), nil},
		"one is away":   {answer(1, []int32{1, 2}, 1, 2), []string{"broker 3 is away, and has copies"}},
		"one is behind": {answer(1, []int32{1, 2}, 1, 2, 3), []string{"broker 3 its copies are behind"}},
		"nobody leads":  {answer(-1, []int32{1}, 2, 3), []string{"partitions without a leader nothing can be sent there or received", "broker 1 is away, and has copies", "broker 2 its copies are behind", "broker 3 its copies are behind"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			var got []string
			for _, f := range findings(c.resp) {
				got = append(got, f.Subject+" "+f.Problem)
				if !slices.Equal(f.Concerns, []string{"partition orders/2"}) || f.Remedy == "" || f.Stops != strings.Contains(f.Problem, "nothing") {
					t.Errorf("it finds %+v", f)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("it finds %q, want %q", got, c.want)
			}
		})
	}
}
