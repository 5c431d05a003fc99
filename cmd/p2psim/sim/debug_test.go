package sim
import ("testing";"fmt";"os";"time")
func TestDebug(t *testing.T){
 cfg:=Default(); fmt.Sscan(os.Getenv("N"),&cfg.Hosts)
 fmt.Sscan(os.Getenv("NB"),&cfg.Neighbours)
 s:=newSim(cfg)
 for s.unfinished>0 { e:=s.queue.pop(); s.step(e) 
   if e.at > 400*time.Millisecond && os.Getenv("X")!="" { os.Setenv("X",""); for i:=range s.hosts[:cfg.Hosts] { g:=&s.hosts[i]; if g.fetcher.Count()<320 { fmt.Println("host",i,"peers",g.fetcher.Peers(),"count",g.fetcher.Count(),"out",g.fetcher.Outstanding(), g.fetcher.Starving(e.at)) } } }
 }
 for i:=range s.hosts[:cfg.Hosts] { g:=&s.hosts[i]; if r:=float64(g.done)/float64(s.bound(0)); r>1.065 { fmt.Println("host",i,"peers",g.fetcher.Peers(),"ratio",r) } }
}
