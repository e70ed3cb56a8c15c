import sys,time,random; sys.path.insert(0,'/work/w2')
import torch; torch.set_num_threads(1)
from mosa.world import training
from mosa.world.training import Architecture, Training
arch=Architecture(hidden_size=128,layers=4,heads=4,intermediate_size=448,embedding_std=1.0,weight_std=0.05,causal=False,seed=0)
tok=training.build_tokenizer(); model=training.new_model(arch,tok,0)
ph=Training(steps=10,batch_size=32,lr=1e-3,warmup=1,decay=.1,eos_weight=.2,full_share=.15,prompt_share=.15,mix={'procedure':1.0})
opt=torch.optim.AdamW(model.parameters(),lr=1e-3,fused=True)
t=time.process_time(); 
for i in range(3): training.batch(tok,['procedure']*32,random.Random(i))
print('batch',(time.process_time()-t)/3)
def step(i):
    v=training.loss(model,tok,ph,random.Random(i),torch.Generator().manual_seed(i)); v.backward(); torch.nn.utils.clip_grad_norm_(model.parameters(),1.0); opt.step(); opt.zero_grad()
step(0)
t=time.process_time()
for i in range(4): step(i)
print('step cpu',(time.process_time()-t)/4)
from torch.profiler import profile, ProfilerActivity
with profile(activities=[ProfilerActivity.CPU]) as p: step(5)
print(p.key_averages().table(sort_by='self_cpu_time_total',row_limit=22,max_name_column_width=50))
