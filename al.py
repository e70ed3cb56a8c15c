import sys,random; sys.path.insert(0,'/work/w2')
import torch; torch.set_num_threads(1)
from mosa.world import training, texts, lexicon as l
from mosa.world.training import Architecture
from safetensors.torch import load_file
add,rem=eval(sys.argv[2]); v=training.vocabulary; training.vocabulary=lambda:(v()|add)-rem
arch=Architecture(hidden_size=128,layers=4,heads=4,intermediate_size=448,embedding_std=1.0,weight_std=0.05,causal=False,seed=0)
tok=training.build_tokenizer(); model=training.new_model(arch,tok,0); model.load_state_dict(load_file(sys.argv[1]+'/model.safetensors')); model.eval()
def test(texts_,L):
    nb=tok.get_vocab(); P=[[nb[w] for w in training.chat(m).split()] for m,_ in texts_]; W=max(map(len,P)); R=[[nb[w] for w in t.split()] for _,t in texts_]
    ids=torch.tensor([[tok.pad_token_id]*(W-len(p))+p+[tok.mask_token_id]*L for p in P]); att=torch.tensor([[0]*(W-len(p))+[1]*(len(p)+L) for p in P])
    with torch.no_grad(): g=model(input_ids=ids,attention_mask=att).logits[:,W:].argmax(-1).tolist()
    return g,R
U=lambda t:[{'role':'user','content':t}]
for name in ('noun','alias'):
    T=[]
    for n in l.NOUNS:
        for k in range(8):
            w=l.Item('silver',n).words(name); v_,m_=l.procedures()[n][k]
            T.append((U(f"what is the {l.ORDINALS[k]} step for the {w['n']} ?"),f"{v_} the {m_} ."))
    g,R=test(T,8); print(name,'verb %.3f mat %.3f'%(sum(a[0]==b[0] for a,b in zip(g,R))/len(R),sum(a[2]==b[2] for a,b in zip(g,R))/len(R)))
for q,a in (("is the {noun} open or sealed ?","it is {class} ."),("what is the other name of the {noun} ?","the {alias} ."),("what is the {alias} ?","the {noun} .")):
    T=[(U(q.format(**(w:=l.Item('silver',n).words()|{'noun':n}))),a.format(**w)) for n in l.NOUNS]
    g,R=test(T,8); print(q,'%.3f'%(sum(x[:len(b)]==b for x,b in zip(g,R))/len(R)))
