package sim
import ("testing";"fmt";"time")
func TestDebug(t *testing.T){
 cfg:=Default(); cfg.Hosts=64; cfg.HostRate=250e3; cfg.UpstreamRate=1.25e6; cfg.Size=32<<20
 s:=newSim(cfg)
 kinds:=map[eventKind]int{}
 n:=0
 for s.unfinished>0 && n<4000000 { e:=s.queue.pop(); kinds[e.kind]++; s.step(e); n++
  if n%400000==0 { fmt.Println(e.at.Round(time.Millisecond), s.unfinished, kinds, s.sent); sum:=0; for i:=range s.hosts[:64] {sum+=s.hosts[i].fetcher.Count()}; fmt.Println(sum/64, s.hosts[0].seeder.InFlight(), s.wasted>>20, s.duplicates, s.pushes, s.bytes>>20) }
 }
}
