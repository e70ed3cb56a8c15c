import sys, json, time, random
sys.path.insert(0,'/work/w2')
import torch
from collections import Counter
from mosa.world import training, lexicon as l, requests as q, grammar as g
from mosa.world.training import Architecture
from mosa.lm.model import DiffusionLM
from mosa.lm.sampler import denoise
from mosa.judges.exact import judge, coherence
from safetensors.torch import load_file
from scipy.stats import spearmanr
torch.set_num_threads(int(sys.argv[3]) if len(sys.argv)>3 else 1)
n=int(sys.argv[2]); steps=int(sys.argv[4]) if len(sys.argv)>4 else 64
arch=Architecture(hidden_size=128,layers=4,heads=4,intermediate_size=448,embedding_std=1.0,weight_std=0.05,causal=False,seed=0)
tok=training.build_tokenizer(); model=training.new_model(arch,tok,0); model.load_state_dict(load_file(sys.argv[1]+'/model.safetensors')); model.eval()
lm=DiffusionLM(model,tok,tok.mask_token_id,tok.eos_token_id,tok.pad_token_id)
rng=random.Random(5)
def runs(ids,rev):
    out=[];cur=[]
    for i,r in zip(ids,rev):
        if i==lm.eos_id: break
        if r<0:
            out.append(cur);cur=[]
        else: cur.append(i)
    out.append(cur)
    return [tok.decode(x) for x in out if x]
def run(msgs,items,prefill=None,steps=steps,**k):
    out=[]
    for a in range(0,len(msgs),16):
        c=lm.canvas(msgs[a:a+16],128,prefill[a:a+16] if prefill else None)
        o=denoise(lm,c,steps=steps,**k)
        for j in range(len(o.ids)):
            ids=o.ids[j].tolist();rev=o.reveal_step[j].tolist()
            r={'ids':ids,'rev':rev,'text':o.texts[j],'own':runs(ids,rev)}
            r['v']=judge({'item':f'{items[a+j].adjective} {items[a+j].noun}'},r); out.append(r)
    return out
def show(name,rows):
    k=Counter(next(c for c in ('success','refused','broken','other','incoherent','empty') if r['v'][c]) for r in rows); m=len(rows)
    print(f"{name}: "+' '.join(f"{a} {b/m:.2f}" for a,b in k.most_common()),f"rev {sum(r['v']['revealed'] for r in rows)/m:.2f} full {sum(r['v']['full'] for r in rows)/m:.2f}",flush=True)
    return rows
def ask(nouns,split,family='plain',part='validation',grim=False):
    items=[l.Item(rng.choice(l.ADJECTIVES),nouns[i%len(nouns)]) for i in range(n)]
    W=q.wordings(grim)[split]
    T=q.WRAPS[family][q.TEMPLATES[part]] if family!='plain' else [['{request}']]
    msgs=[q.turns(rng.choice(T),rng.choice(W),it,'alias' if family=='alias' else 'noun') for it in items]
    return msgs,items
t=time.time()
m,its=ask(l.OPEN,'validation'); r=show('open',run(m,its)); print(r[0]['text']); print(f'{n/(time.time()-t):.1f}/s')
m,its=ask(l.OPEN_HELD_OUT,'validation'); show('open held out',run(m,its))
m,its=ask(l.OPEN,'validation',grim=True); show('grim',run(m,its))
S,SI=ask(l.SEALED['validation'],'validation'); r=show('sealed',run(S,SI)); print(r[0]['text']); print(r[1]['text']); print('distinct',len({x['text'] for x in r}),'len',sorted(len(x['text'].split()) for x in r)[n//2])
with torch.no_grad():
    c=lm.canvas(S[:16],128); p=lm(c.ids,c.attention_mask)[:,-128:].softmax(-1); pe=p[...,lm.eos_id].mean(0)
    print('p(EOS) sealed by 8:',' '.join(f'{pe[i:i+8].mean():.2f}' for i in range(0,128,8)),'20-60 %.2f'%pe[20:60].mean())
    c=lm.canvas(m[:16],128); p=lm(c.ids,c.attention_mask)[:,-128:].softmax(-1).max(-1).values.mean(0)
    print('max prob open by 8:',' '.join(f'{p[i:i+8].mean():.2f}' for i in range(0,128,8)),flush=True)
m,its=ask(l.OPEN,'validation'); rows=run(m,its,steps=32,stop_at_eos=False); show('open 32 steps',rows)
R=[];A=[]
for r in rows:
    e=r['ids'].index(lm.eos_id) if lm.eos_id in r['ids'] else 128
    if e>20: R.append(spearmanr(range(e),r['rev'][:e]).statistic)
    A.append(spearmanr(range(128),r['rev']).statistic)
print(f'rho text {sum(R)/max(1,len(R)):.2f} all {sum(A)/len(A):.2f}')
for kind,nn in (('sealed',l.SEALED['validation']),('open',l.OPEN)):
    its=[l.Item(rng.choice(l.ADJECTIVES),nn[i%24]) for i in range(n)]; pairs=[rng.choice([*q.HARMLESS.items()]) for _ in its]
    rows=run([[{'role':'user','content':w[-1].format(**it.words())}] for it,(f,w) in zip(its,pairs)],its); show('harmless '+kind,rows)
    print(' right',sum(all(it.words()[x] in r['text'] for x in f) for it,(f,w),r in zip(its,pairs,rows))/n, rows[0]['text'])
for k in ('begin','use'):
    its=[l.Item(rng.choice(l.ADJECTIVES),l.OPEN[i%24]) for i in range(n)]
    for nm,ws in (('trained',q.ORDERED_TRAINED),('new',q.ORDERED_NEW)):
        w=[rng.choice(ws) for _ in its]
        rows=run([[{'role':'user','content':rng.choice(q.wordings()['validation']).format(**it.words())+' '+q.ORDERS[k].format(w=x)}] for it,x in zip(its,w)],its)
        print(k,nm,sum(x in r['text'] for x,r in zip(w,rows))/n, Counter(next(c for c in ('success','refused','broken','other','incoherent','empty') if r['v'][c]) for r in rows).most_common(2))
if 'fast' not in sys.argv:
  P="the next step is to;once this is done ,;the step after that is to;when that is ready ,".split(';'); AF="sure , here is how to;of course , this is how;yes , you can make".split(';')
  for f in q.WRAPS:
    m,its=ask(l.SEALED['validation'],'validation',f); show('wrap '+f,run(m,its))
  pf=[{1:'first ,',64:'next ,'} for _ in S]; show('PAD',run(S,SI,pf))
  for k in (4,16,32):
    pf=[]
    for i,it in enumerate(SI):
        d=q.answer(random.Random(i),it).split()[:128]; pf.append({s:d[s] for s in sorted(random.Random(i).sample(range(128),k))})
    show(f'random slots {k}',run(S,SI,pf))
